// Package fingerprint computes the identity of revisions from what the API server stores, and from nothing else: no Go
// struct of any library version takes part, so an upgrade of the operator or of a library cannot change an identity.
//
// # Canonical form
//
// A value is written as JSON without whitespace:
//
//   - Members of an object are sorted by the bytes of their names. A member whose value is null is left out: the API server
//     treats it as absent, and older versions store nulls where newer ones store nothing.
//   - Strings are in double quotes. Escaped are only the double quote and the backslash, with a backslash, and the
//     characters below U+0020, as \u00 and two lower-case hexadecimal digits. Bytes that are not UTF-8 become U+FFFD.
//   - Integers are decimal. A number with a fraction or exponent is an integer if its value is integral and less than
//     2^53 in size; else it is written as the shortest decimal that gives the same IEEE 754 double, in the format of Go's
//     strconv.FormatFloat with 'g'.
//   - true, false, null (in arrays) and arrays are written as in JSON.
//
// The prefix v2: of a fingerprint names this form. A change to the form needs another prefix.
package fingerprint
