// Package vectors reads and writes test vectors, one case a file: what transport/testdata/vectors and rpc/testdata/vectors hold.
//
// A file is lines "name: value", then blocks: a line "[name]" and lines of hex, at most 32 bytes each. A line that is empty or
// begins with # says nothing. The README.md of each of these folders tells what the names mean.
package vectors

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// A Case is one vector.
type Case struct {
	Headers []Header
	Blocks  []Block
}

// A Header is a line of text.
type Header struct{ Name, Value string }

// A Block is a piece of bytes.
type Block struct {
	Name string
	Data []byte
}

const lineBytes = 32

// Parse reads a file.
func Parse(text []byte) (*Case, error) {
	c := new(Case)
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		if err := c.line(line); err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return c, nil
}

func (c *Case) line(line string) error {
	if name, ok := strings.CutPrefix(line, "["); ok {
		name, ok := strings.CutSuffix(name, "]")
		if !ok {
			return fmt.Errorf("%q is no name of a block", line)
		}
		c.Blocks = append(c.Blocks, Block{Name: name})
		return nil
	}
	if len(c.Blocks) > 0 {
		data, err := hex.DecodeString(line)
		last := &c.Blocks[len(c.Blocks)-1]
		last.Data = append(last.Data, data...)
		return err
	}
	name, value, ok := strings.Cut(line, ": ")
	if !ok {
		return fmt.Errorf("%q is no header", line)
	}
	c.Headers = append(c.Headers, Header{name, value})
	return nil
}

// Format is what Parse reads.
func (c *Case) Format() []byte {
	var b bytes.Buffer
	for _, h := range c.Headers {
		fmt.Fprintf(&b, "%s: %s\n", h.Name, h.Value)
	}
	for _, block := range c.Blocks {
		fmt.Fprintf(&b, "\n[%s]\n", block.Name)
		for data := block.Data; len(data) > 0; {
			n := min(lineBytes, len(data))
			fmt.Fprintf(&b, "%x\n", data[:n])
			data = data[n:]
		}
	}
	return b.Bytes()
}

// Get returns the value of the first header of that name, "" if there is none.
func (c *Case) Get(name string) string {
	values := c.All(name)
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// All returns the values of all headers of that name.
func (c *Case) All(name string) (values []string) {
	for _, h := range c.Headers {
		if h.Name == name {
			values = append(values, h.Value)
		}
	}
	return values
}

// Hex returns the bytes that a header's value spells.
func (c *Case) Hex(name string) ([]byte, error) {
	b, err := hex.DecodeString(c.Get(name))
	if err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return b, err
}

// Add appends a header.
func (c *Case) Add(name, value string) { c.Headers = append(c.Headers, Header{name, value}) }

// AddHex appends a header whose value is bytes.
func (c *Case) AddHex(name string, value []byte) { c.Add(name, hex.EncodeToString(value)) }

// AddBlock appends a block, or to the last one if that has the same name.
func (c *Case) AddBlock(name string, data []byte) {
	if n := len(c.Blocks); n > 0 && c.Blocks[n-1].Name == name {
		c.Blocks[n-1].Data = append(c.Blocks[n-1].Data, data...)
		return
	}
	c.Blocks = append(c.Blocks, Block{name, bytes.Clone(data)})
}

// Load reads every case of a folder, by the name of its file without .txt.
func Load(dir string) (map[string]*Case, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	cases := make(map[string]*Case)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		c, err := Parse(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !bytes.Equal(c.Format(), text) {
			return nil, fmt.Errorf("%s is not as Format writes it", file)
		}
		cases[strings.TrimSuffix(filepath.Base(file), ".txt")] = c
	}
	return cases, err
}

// Save writes cases to a folder and removes the files of others.
func Save(dir string, cases map[string]*Case) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	old, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return err
	}
	for _, file := range old {
		if cases[strings.TrimSuffix(filepath.Base(file), ".txt")] == nil {
			if err := os.Remove(file); err != nil {
				return err
			}
		}
	}
	for name, c := range cases {
		if err := os.WriteFile(filepath.Join(dir, name+".txt"), c.Format(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
