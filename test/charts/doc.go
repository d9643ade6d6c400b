// Package charts renders the charts with the engines of Helm and the overlays with that of Kustomize, and holds what they say against
// the operator. It is a module of its own, so that nothing else depends on these.
package charts
