// Package hook calls the webhooks of a Canary.
//
// A call is an HTTP POST of a JSON payload. Any 2xx status is success, whatever the type of the webhook: a rollback hook that
// answers 204 rolls back, where Flagger, to which only 200, 201 and 202 are success, went on. Attempts that got no answer, or
// 429, or 5xx other than 501, are repeated as often as the webhook's retries say, after 1s, 2s, 4s and so on up to 30s, or
// after what the answer's Retry-After asks for, up to the same limit.
//
// Redirects with 307 and 308 on the same host are followed, with the payload. All others are failures that say where they
// lead: 301, 302 and 303 would turn the call into a GET without payload, and another host is not what the author of the
// Canary named.
//
// Whoever may create a Canary chooses the URL. So that this does not open what only the operator's node can reach, link-local
// addresses, where clouds serve credentials, are not connected to, and no more than 4 KiB of an answer become visible.
package hook
