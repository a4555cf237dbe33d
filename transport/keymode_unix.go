//go:build unix

package transport

import (
	"io/fs"
	"os"
	"syscall"
)

// exposed reports whether others may read or write a private key's file. A file of root's that this process's group may read, and no
// more, is how systemd (LoadCredential) and Kubernetes (secrets) hand a key to a service that is not root; whoever could change its mode
// is the one who chose it. OpenSSH does not judge the files of other owners either.
func exposed(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	handed := ok && stat.Uid == 0 && os.Geteuid() != 0
	return exposedMode(info.Mode().Perm(), handed)
}

func exposedMode(mode fs.FileMode, handed bool) bool {
	if handed {
		mode &^= 0o040
	}
	return mode&0o077 != 0
}
