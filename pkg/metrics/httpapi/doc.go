// Package httpapi is the HTTP client that metric back-ends share: one pool of connections for all servers, bounded answers,
// credentials that only their own server gets to see, retries of a server that is busy, and errors that name server, status and the
// start of the answer.
package httpapi
