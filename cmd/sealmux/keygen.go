package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
)

func keygenCommand() *cobra.Command {
	var dir string
	var bits int
	cmd := &cobra.Command{
		Use:   "keygen --out DIR",
		Short: "Make an identity: private.pem and public.pem",
		Long: "keygen makes an RSA key pair and writes it to DIR/private.pem (PKCS#8, mode 0600) and DIR/public.pem\n" +
			"(PKIX). It never overwrites a file. It prints the fingerprint, by which others may name the key.",
		Example: "  sealmux keygen --out server\n" +
			"  sealmux keygen --out me --bits 4096",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				return usagef("name the folder for the two files with --out DIR")
			}
			if bits < transport.MinKeyBits || bits > transport.MaxKeyBits || bits%8 != 0 {
				return usagef("--bits must be a multiple of 8 from %d to %d", transport.MinKeyBits, transport.MaxKeyBits)
			}
			key, err := keygen(dir, bits)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "wrote %s (keep it secret) and %s (give it to your peers)\n",
				filepath.Join(dir, privateFile), filepath.Join(dir, publicFile))
			_, err = fmt.Fprintln(cmd.OutOrStdout(), key.Fingerprint())
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "out", "", "folder `DIR` for private.pem and public.pem; made if absent (required)")
	cmd.Flags().IntVar(&bits, "bits", transport.DefaultKeyBits, "size of the key")
	return cmd
}

const (
	privateFile = "private.pem"
	publicFile  = "public.pem"
)

// keygen leaves both files or neither.
func keygen(dir string, bits int) (*transport.PrivateKey, error) {
	private, public := filepath.Join(dir, privateFile), filepath.Join(dir, publicFile)
	for _, path := range []string{private, public} { // before the seconds that a key takes
		if _, err := os.Lstat(path); err == nil {
			return nil, overwriteError(path)
		}
	}
	key, err := transport.GenerateKey(bits)
	if err != nil {
		return nil, errors.New(plain(err))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("cannot make the folder %s: %w; choose another --out", dir, err)
	}
	if err := writeError(private, key.WriteFile(private)); err != nil {
		return nil, err
	}
	if err := writeError(public, key.Public().WriteFile(public)); err != nil {
		os.Remove(private) // this call made it
		return nil, err
	}
	return key, nil
}

func writeError(path string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, fs.ErrExist):
		return overwriteError(path)
	}
	return fmt.Errorf("cannot write the key: %s; choose another --out", plain(err))
}

func overwriteError(path string) error {
	return fmt.Errorf("%s exists and a key is never overwritten; choose another --out or move it away", path)
}
