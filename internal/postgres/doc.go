// Package postgres holds no code but tests: a real PostgreSQL behind a session, by way of sealmux forward and by way of the DialFunc of a
// driver. README.md says what they show. It is a module of its own for the drivers.
package postgres
