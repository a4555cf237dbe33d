package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
)

// keygenOptions are what keygen does: one of dir, public and show says which of three.
type keygenOptions struct {
	dir     string
	bits    int
	comment string
	public  string
	show    string
	json    bool
}

func keygenCommand() *cobra.Command {
	var o keygenOptions
	cmd := &cobra.Command{
		Use:   "keygen --out DIR | -y FILE | -l FILE|SHA256:...",
		Short: "Make an identity: private.pem and public.pem",
		Long: "keygen makes an RSA key pair and writes it to DIR/private.pem (PKCS#8, mode 0600) and DIR/public.pem\n" +
			"(PKIX). It never overwrites a file. It prints the fingerprint, by which others may name the key; on stderr also as\n" +
			"ssh's picture, to see that two keys differ, and as 24 words (of BIP 39, but no secret), to read aloud: only they, or the whole\n" +
			"fingerprint, prove that two keys are the same.\n\n" +
			"-y prints the public half of a private key (PKCS#8 or PKCS#1). -l shows the fingerprint, the picture, the words and the key as one\n" +
			"line, in ssh's form, of a public or private key; such a line may stand in a file wherever a public key is read. Only the\n" +
			"form is ssh's: a key that ssh uses should not be used here as well. Of a fingerprint -l shows the picture and the words.",
		Example: "  sealmux keygen --out server\n" +
			"  sealmux keygen --out me --bits 4096\n" +
			"  sealmux keygen -l server/public.pem\n" +
			"  sealmux keygen -y server/private.pem > public.pem",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.check(); err != nil {
				return err
			}
			switch {
			case o.public != "":
				return o.printPublic(cmd.OutOrStdout())
			case o.show != "":
				return o.printKey(cmd.OutOrStdout())
			}
			return o.make(cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringVar(&o.dir, "out", "", "folder `DIR` for private.pem and public.pem; made if absent")
	cmd.Flags().IntVar(&o.bits, "bits", transport.DefaultKeyBits, "size of the key in `BITS`")
	cmd.Flags().StringVarP(&o.public, "public", "y", "", "print the public half of the private key in `FILE`")
	cmd.Flags().StringVarP(&o.show, "show", "l", "", "show the key in `FILE`, public or private, in all its forms, or a fingerprint SHA256:...")
	cmd.Flags().StringVar(&o.comment, "comment", "", "`TEXT` at the end of the key's line")
	addJSON(cmd, &o.json)
	return cmd
}

func (o *keygenOptions) check() error {
	asked := 0
	for _, flag := range []string{o.dir, o.public, o.show} {
		if flag != "" {
			asked++
		}
	}
	switch {
	case asked == 0:
		return usagef("name the folder for the two files with --out DIR")
	case asked > 1:
		return usagef("--out, -y and -l exclude each other; give one")
	case o.bits < transport.MinKeyBits || o.bits > transport.MaxKeyBits || o.bits%8 != 0:
		return usagef("--bits must be a multiple of 8 from %d to %d", transport.MinKeyBits, transport.MaxKeyBits)
	}
	return nil
}

func (o *keygenOptions) make(out, errOut io.Writer) error {
	key, err := keygen(o.dir, o.bits)
	if err != nil {
		return err
	}
	made := identityOf(key.Public(), o.comment)
	made.Private, made.Public = filepath.Join(o.dir, privateFile), filepath.Join(o.dir, publicFile)
	if o.json {
		return printJSON(out, made)
	}
	fmt.Fprintf(errOut, "wrote %s (keep it secret) and %s (give it to your peers)\n", made.Private, made.Public)
	made.describe(errOut)
	_, err = fmt.Fprintln(out, made.Fingerprint)
	return err
}

func (o *keygenOptions) printPublic(out io.Writer) error {
	key, err := transport.ReadPrivateKey(o.public)
	if err != nil {
		return keyError("--public", o.public, err)
	}
	if o.json {
		return printJSON(out, identityOf(key.Public(), o.comment))
	}
	_, err = out.Write(key.Public().MarshalPEM())
	return err
}

func (o *keygenOptions) printKey(out io.Writer) error {
	shown, err := o.shown()
	if err != nil {
		return err
	}
	if o.json {
		return printJSON(out, shown)
	}
	if shown.Line == "" {
		fmt.Fprintln(out, shown.Fingerprint)
		shown.describe(out)
		return nil
	}
	fmt.Fprintf(out, "%s RSA %d bits\n", shown.Fingerprint, shown.Bits)
	shown.describe(out)
	_, err = fmt.Fprintf(out, "%s\n", shown.Line)
	return err
}

// shown is what -l is about: a key in a file, or one of which a person has been told the fingerprint.
func (o *keygenOptions) shown() (identity, error) {
	if isFingerprint(o.show) {
		print, err := transport.ParseFingerprint(o.show)
		if err != nil {
			return identity{}, usagef("--show %s: %s", o.show, plain(err))
		}
		return identityNamed(print), nil
	}
	key, err := readEitherKey(o.show)
	if err != nil {
		return identity{}, err
	}
	return identityOf(key, o.comment), nil
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
