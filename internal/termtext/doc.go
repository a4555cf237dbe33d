// Package termtext makes texts that the tool prints.
package termtext
