package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// A benchPicture is where --svg draws. It is made beside the file before the load begins, so that nobody loses a long run to a name that
// cannot be written, and takes its place once it is whole. A nil one is none.
type benchPicture struct {
	name string
	f    *os.File // nil once it is saved
}

func newBenchPicture(name string) (*benchPicture, error) {
	if name == "" {
		return nil, nil
	}
	if info, err := os.Stat(name); err == nil && !info.Mode().IsRegular() {
		return nil, fmt.Errorf("--svg %s is no ordinary file; name another", name)
	} else if err == nil { // through links, which stay
		if name, err = filepath.EvalSymlinks(name); err != nil {
			return nil, fmt.Errorf("--svg: %w", err)
		}
	}
	beside := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+"."+rand.Text()[:8])
	f, err := os.OpenFile(beside, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("--svg: there is no folder %s; make it first", filepath.Dir(name))
	case err != nil:
		return nil, fmt.Errorf("--svg: %w", err)
	}
	return &benchPicture{name, f}, nil
}

// save draws, and writes that. If it is nothing it says so, and what was in the file stays.
func (p *benchPicture) save(draw func() string) error {
	if p == nil {
		return nil
	}
	svg := draw()
	if svg == "" {
		return fmt.Errorf("--svg: nothing was measured; %s is not written", p.name)
	}
	_, err := p.f.WriteString(svg)
	if err == nil {
		err = p.f.Sync() // else a crash soon after could leave an empty file in the place of an old one
	}
	if bad := p.f.Close(); err == nil {
		err = bad
	}
	if err == nil {
		err = os.Rename(p.f.Name(), p.name)
	}
	if err != nil {
		return fmt.Errorf("--svg: %w", err)
	}
	p.f = nil
	return nil
}

// discard removes what was not saved.
func (p *benchPicture) discard() {
	if p != nil && p.f != nil {
		p.f.Close()
		os.Remove(p.f.Name())
	}
}
