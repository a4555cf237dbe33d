package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// The known-servers file, of which known.go says what it is for.

const (
	maxKnownFile = 1 << 20
	knownKind    = "sealmux-rsa"
)

// A KnownServer is a line of a known-servers file: a key that the server at an address may have.
type KnownServer struct {
	Address string // HOST:PORT: a name in lower case or an IP address, IPv6 in brackets
	Key     Fingerprint
	File    string
	Line    int // from 1
}

// String says where the line is, as in known_servers:3.
func (s KnownServer) String() string { return s.File + ":" + strconv.Itoa(s.Line) }

// ReadKnownServers returns the lines of a known-servers file (see KnownServers) in their order; none if there is no such file. Errors
// match ErrKnownServers, and fs.ErrPermission and the like where they apply.
func ReadKnownServers(path string) ([]KnownServer, error) {
	file, err := openKnown(path, os.O_RDONLY)
	if path != "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	_, found, err := readKnown(file)
	if err != nil {
		return nil, err
	}
	var lines []KnownServer
	for _, f := range found {
		lines = append(lines, f.KnownServer)
	}
	return lines, nil
}

// ForgetServer makes comments of the lines that a known-servers file has for an address, so that the server there is asked about
// anew, and returns them as they were; none if there was none. The other lines stay where they are, and those that are added
// meanwhile are not lost. Errors match ErrKnownServers, or ErrConfig if the address is no HOST:PORT.
func ForgetServer(path, address string) ([]KnownServer, error) {
	name, err := knownAddress(address)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	file, err := openKnown(path, os.O_RDWR)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	_, found, err := readKnown(file)
	if err != nil {
		return nil, err
	}
	var gone []KnownServer
	for _, f := range found {
		if f.Address != name {
			continue
		}
		if _, err := file.WriteAt(f.forgotten(), int64(f.at)); err != nil {
			return gone, fmt.Errorf("%w: %w", ErrKnownServers, err)
		}
		gone = append(gone, f.KnownServer)
	}
	if err := file.Close(); err != nil {
		return gone, fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	return gone, nil
}

// lines returns what the file has for an address, one line for each key.
func (k *knownServers) lines(name string) ([]KnownServer, error) {
	all, err := ReadKnownServers(k.path)
	if err != nil {
		return nil, err
	}
	seen := make(map[Fingerprint]bool)
	lines := slices.DeleteFunc(all, func(s KnownServer) bool {
		if s.Address != name || seen[s.Key] {
			return true
		}
		seen[s.Key] = true
		return false
	})
	if len(lines) > maxKeyIDs {
		return nil, fmt.Errorf("%w: %v: more than %d keys for %s; remove those it has no more", ErrKnownServers, lines[maxKeyIDs], maxKeyIDs, name)
	}
	return lines, nil
}

// openKnown opens nothing but a file: what is something else might block, or have no end.
func openKnown(path string, how int) (*os.File, error) {
	info, err := os.Stat(path)
	switch {
	case err == nil && !info.Mode().IsRegular():
		return nil, fmt.Errorf("%w: %s is not a file", ErrKnownServers, path)
	case err != nil && (!errors.Is(err, fs.ErrNotExist) || how&os.O_CREATE == 0):
		return nil, fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	file, err := os.OpenFile(path, how, 0o600)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	return file, nil
}

// readKnown reads an open file, which bears the name it was opened by.
func readKnown(file *os.File) (data []byte, found []foundServer, err error) {
	data, err = io.ReadAll(io.LimitReader(file, maxKnownFile+1))
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	if len(data) > maxKnownFile {
		return nil, nil, fmt.Errorf("%w: %s is larger than %d bytes", ErrKnownServers, file.Name(), maxKnownFile)
	}
	found, err = parseKnown(file.Name(), data)
	return data, found, err
}

// addKnown adds a line with one write at the end, wherever that is by then: of two processes that do so, neither destroys the other's.
// A line that is there is not added again, but by processes that do it at once.
func addKnown(path, name string, key Fingerprint) (err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	file, err := openKnown(path, os.O_RDWR|os.O_APPEND|os.O_CREATE)
	if err != nil {
		return err
	}
	defer func() {
		if closed := file.Close(); err == nil && closed != nil {
			err = fmt.Errorf("%w: %w", ErrKnownServers, closed)
		}
	}()
	data, found, err := readKnown(file)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(found, func(f foundServer) bool { return f.Address == name && f.Key == key }) {
		return nil
	}
	line := appended(data, name, key)
	if len(data)+len(line) > maxKnownFile {
		return fmt.Errorf("%w: %s would be larger than %d bytes", ErrKnownServers, path, maxKnownFile)
	}
	if _, err = file.Write(line); err == nil {
		err = file.Sync() // a full disk may only show here
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKnownServers, err)
	}
	return nil
}

// appended is what to add to a file to have a line at its end, though its last line may lack its own.
func appended(data []byte, name string, key Fingerprint) []byte {
	line := knownLine(name, key) + "\n"
	if len(data) > 0 && data[len(data)-1] != '\n' {
		line = "\n" + line
	}
	return []byte(line)
}

func knownLine(name string, key Fingerprint) string {
	return name + " " + knownKind + " " + key.String()
}

// A foundServer is a line, and where it is in the file.
type foundServer struct {
	KnownServer
	at, size int    // without its comment and its end
	written  string // the address as it is written there
}

// forgotten is what to write over the line to make a comment of it. It has the same size, so that nothing else moves:
//
//	example.org:7443 sealmux-rsa SHA256:...
//	# example.org:7443 forgotten SHA256:...
func (f foundServer) forgotten() []byte {
	comment := "# " + f.written + " forgotten " + f.Key.String()
	return append([]byte(comment), bytes.Repeat([]byte(" "), f.size-len(comment))...)
}

// parseKnown reads a whole file, or nothing of it.
func parseKnown(path string, data []byte) (all []foundServer, err error) {
	at, n := 0, 0
	for line := range bytes.Lines(data) {
		n++
		text, _, _ := bytes.Cut(bytes.TrimRight(line, "\r\n"), []byte("#"))
		if len(bytes.TrimSpace(text)) > 0 {
			f, err := parseKnownLine(string(text))
			if err != nil {
				return nil, fmt.Errorf("%w: %s:%d: %w", ErrKnownServers, path, n, err)
			}
			f.File, f.Line, f.at = path, n, at
			all = append(all, f)
		}
		at += len(line)
	}
	return all, nil
}

var errKnownLine = errors.New("not of the form HOST:PORT " + knownKind + " SHA256:...; correct or remove it")

func parseKnownLine(text string) (f foundServer, err error) {
	fields := strings.Fields(text)
	if len(fields) != 3 || fields[1] != knownKind {
		return f, errKnownLine
	}
	f.written, f.size = fields[0], len(text)
	if f.Address, err = knownAddress(f.written); err != nil {
		return f, errKnownLine
	}
	if f.Key, err = ParseFingerprint(fields[2]); err != nil {
		return f, errKnownLine
	}
	return f, nil
}

// knownAddress returns the one form that an address has in the file.
func knownAddress(address string) (string, error) {
	bad := fmt.Errorf("%q is not HOST:PORT with a number for a port", address)
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		return "", bad
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil || port == 0 {
		return "", bad
	}
	if host == "" {
		host = "localhost" // as net.Dial has it
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		host = ip.Unmap().String()
	} else if strings.Contains(host, ":") {
		return "", bad
	}
	if strings.ContainsFunc(host, func(r rune) bool { return !inHost(r) }) {
		return "", bad
	}
	return net.JoinHostPort(strings.ToLower(host), strconv.FormatUint(port, 10)), nil
}

// inHost reports whether a host may have that in it: names, addresses, and the zones of addresses. It leaves out what patterns
// are made of, which would be taken for names here.
func inHost(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return true
	}
	return strings.ContainsRune("-_.:%", r)
}
