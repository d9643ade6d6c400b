// Package httpapi is the HTTP client that metric back-ends share: it decodes JSON, and its errors name server, status and the start of
// the answer, without what must not be shown.
package httpapi
