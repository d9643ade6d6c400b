// Package kubetest has what tests of those need that use package kube.
package kubetest

import (
	"context"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// Client is a clientset, such as a fake one, as a client of package kube.
type Client struct{ kubernetes.Interface }

// CreateEvent implements kube.Events.
func (c Client) CreateEvent(ctx context.Context, e *corev1.Event) error {
	_, err := c.CoreV1().Events(e.Namespace).Create(ctx, e, metav1.CreateOptions{})
	return err
}

// GetLease implements kube.Leases.
func (c Client) GetLease(ctx context.Context, namespace, name string) (*coordinationv1.Lease, error) {
	return c.CoordinationV1().Leases(namespace).Get(ctx, name, metav1.GetOptions{})
}

// CreateLease implements kube.Leases.
func (c Client) CreateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.CoordinationV1().Leases(l.Namespace).Create(ctx, l, metav1.CreateOptions{})
}

// UpdateLease implements kube.Leases.
func (c Client) UpdateLease(ctx context.Context, l *coordinationv1.Lease) (*coordinationv1.Lease, error) {
	return c.CoordinationV1().Leases(l.Namespace).Update(ctx, l, metav1.UpdateOptions{})
}
