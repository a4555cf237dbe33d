// Package jsonmsg turns messages of rpc into JSON and back, by what a server tells of their types (rpc.Description), so that a person
// can call a method without Go types for it. Text is a string of JSON, bytes are one in standard base64, a time is one of RFC 3339,
// a struct is an object with the fields that are there, and the floats that JSON lacks are "NaN", "Infinity" and "-Infinity". Of what
// To makes of a message of From, From makes the same message again; only the JSON of a method with a codec may be spelled otherwise.
//
// A description and a value come from a peer, and may hold anything: what does not hold together ends in an error, and what is made
// is at most about eight times as long as what it is made of. Nothing here changes a description, so one may serve several calls at once.
package jsonmsg
