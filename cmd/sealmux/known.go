package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	"github.com/sealmux/sealmux/transport"
)

// The values of --trust, whose habits are those of ssh's StrictHostKeyChecking.
const (
	trustAsk    = "ask"
	trustStrict = "strict"
	trustNew    = "accept-new"
)

var trusts = []string{trustAsk, trustStrict, trustNew}

// knownServers are the servers that are trusted without --server-key: those of a file, and whom the user says yes to.
type knownServers struct {
	file  string
	trust string
	cmd   *cobra.Command // whose input and errors may be a terminal

	once  sync.Once
	peers *transport.Trust
}

func addKnownServersFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVar(file, "known-servers", defaultKnown(), "`FILE` of the servers that are known, with a line HOST:PORT sealmux-rsa SHA256:... for each")
	cmd.Flags().Lookup("known-servers").DefValue = defaultKnownHelp()
}

// defaultKnownHelp is defaultKnown without what differs from user to user.
func defaultKnownHelp() string {
	switch runtime.GOOS {
	case "windows":
		return `%AppData%\sealmux\known_servers`
	case "darwin":
		return "~/Library/Application Support/sealmux/known_servers"
	}
	return "~/.config/sealmux/known_servers"
}

func defaultKnown() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return "" // check says so if it is needed
	}
	return filepath.Join(dir, "sealmux", "known_servers")
}

func addKnownFlags(cmd *cobra.Command) *knownServers {
	k := &knownServers{cmd: cmd}
	addKnownServersFlag(cmd, &k.file)
	cmd.Flags().StringVar(&k.trust, "trust", trustAsk,
		"what becomes of a server that is not known: ask about it on the terminal, strict refuses it, accept-new believes it; `HOW` is "+strings.Join(trusts, ", "))
	cmd.RegisterFlagCompletionFunc("trust", cobra.FixedCompletions(trusts, cobra.ShellCompDirectiveNoFileComp)) // fails only for flags that there are not
	return k
}

var errNoKnownFile = errors.New("there is no folder of yours to keep the known servers in; name a file with --known-servers FILE")

// check is for a command that connects to addr without --server-key.
func (k *knownServers) check(addr string) error {
	if !slices.Contains(trusts, k.trust) {
		return usagef("--trust must be %s; it is %q", strings.Join(trusts, " or "), k.trust)
	}
	if _, port, err := net.SplitHostPort(addr); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); port != "" && (err != nil || n == 0) {
			return usagef("ADDR must have a number for a port, by which the server is known; it is %q", addr)
		}
	}
	if k.file == "" {
		return fmt.Errorf("%w, or the server's key with --server-key", errNoKnownFile)
	}
	return nil
}

// trusted is one for all sessions of a command, so that the user is asked once.
func (k *knownServers) trusted() *transport.Trust {
	k.once.Do(func() {
		var ask func(context.Context, string, *transport.PublicKey) error
		switch k.trust {
		case trustAsk:
			ask = k.ask
		case trustNew:
			ask = k.acceptNew
		}
		k.peers = transport.KnownServers(k.file, ask)
	})
	return k.peers
}

func (k *knownServers) acceptNew(_ context.Context, address string, key *transport.PublicKey) error {
	errOut := k.cmd.ErrOrStderr()
	fmt.Fprintf(errOut, "%s the server at %s is new; its key %v is believed unseen, and remembered in %s once it has proven it\n",
		newStyle(errOut).yellow("warning:"), address, key, k.file)
	return nil
}

// An unknownError refuses a server that is not known.
type unknownError struct{ text string }

func (e unknownError) Error() string { return e.text }

// howToConfirm says where a person gets what to give instead.
func howToConfirm(print transport.Fingerprint) string {
	return fmt.Sprintf("it offers the key %v: if its owner confirms that (sealmux serve and sealmux keygen -l print it), give --server-key %v", print, print)
}

// refusal says why the server is not trusted.
func (k *knownServers) refusal(addr string, wrong *transport.ServerKeyError, err error) error {
	if unknown, ok := errors.AsType[unknownError](err); ok {
		return unknown
	}
	switch {
	case len(wrong.Known) > 0:
		return k.changed(addr, wrong)
	case len(wrong.Pinned) > 0:
		return fmt.Errorf("the server at %s offered the key %v first, and then %v; ask its owner which keys it has", addr, wrong.Pinned[0], wrong.Offered)
	}
	return fmt.Errorf("the server at %s is not in %s, and --trust %s believes no other; %s", addr, k.file, k.trust, howToConfirm(wrong.Offered))
}

// A loudError has more to say than fits into a sentence: lines that are printed before it.
type loudError struct {
	error
	warning func(style) string
}

func (e loudError) Unwrap() error { return e.error }

// changed refuses a server that has another key than it had, as somebody would have who sits in between.
func (k *knownServers) changed(addr string, wrong *transport.ServerKeyError) error {
	address := wrong.Known[0].Address
	forget := "sealmux known remove " + address
	if k.file != defaultKnown() {
		forget += " --known-servers " + k.file
	}
	var places []string
	for _, line := range wrong.Known {
		places = append(places, line.String())
	}
	return loudError{
		fmt.Errorf("the server at %s offers the key %v, not the one in %s; it was not talked to", addr, wrong.Offered, strings.Join(places, " and ")),
		func(s style) string {
			var text strings.Builder
			fmt.Fprintln(&text, s.red(s.bold("WARNING: THE SERVER AT "+address+" HAS ANOTHER KEY THAN BEFORE")))
			for i, line := range wrong.Known {
				fmt.Fprintf(&text, "  known    %v (%s)\n", line.Key, places[i])
			}
			fmt.Fprintf(&text, "  offered  %v\n", wrong.Offered)
			fmt.Fprintf(&text, "Its owner may have replaced the key, or somebody may be posing as the server, to read and change what you send.\n"+
				"Nothing was sent. Ask the owner, on another way than this network, for the fingerprint that the server has now.\n"+
				"Only if it is the one offered, forget the old one with\n  %s\nand connect again.\n", s.bold(forget))
			return text.String()
		},
	}
}

// knownFileError says what is wrong with the file.
func knownFileError(err error) error { return fmt.Errorf("--known-servers: %s", plain(err)) }
