//go:build !unix

package transport

import "io/fs"

// exposed knows nothing here: these systems have no permission bits.
func exposed(fs.FileInfo) bool { return false }
