package rpc

import (
	"errors"
	"strings"
	"testing"
)

// gobDefinition is the message that describes a type: form is the number of its pointer, from 1, and detail what follows the
// type's name and number.
func gobDefinition(id int64, form byte, detail []byte) []byte {
	d := append(appendGobInt(nil, -id), form, 1, 2) // no name
	d = append(appendGobInt(d, id), 0)
	d = append(append(d, detail...), 0, 0)
	return append(appendGobUint(nil, uint64(len(d))), d...)
}

// gobFields is the detail of a struct with so many fields of a type.
func gobFields(count int, id int64) []byte {
	b := appendGobUint([]byte{1}, uint64(count))
	for range count {
		b = append(appendGobInt(append(b, 1, 1, 'X', 1), id), 0)
	}
	return b
}

// gobElem is the detail of a list of a type.
func gobElem(id int64) []byte { return appendGobInt([]byte{1}, id) }

// gobTypeBomb has a struct with fields that nobody wants, each of lists in lists to a depth that no value could have. gob learns anew
// for each field how to skip that, even where no value has the field.
func gobTypeBomb(fields, lists int) string {
	id := int64(gobUser)
	b := gobDefinition(id, 2, gobElem(gobInt))
	for range lists - 1 {
		b = append(b, gobDefinition(id+1, 2, gobElem(id))...)
		id++
	}
	b = append(b, gobDefinition(id+1, 3, gobFields(fields, id))...)
	value := append(appendGobInt(nil, id+1), 0)
	return string(append(append(b, byte(len(value))), value...))
}

// gobMapBomb is of maps whose keys and elements are two others, and so on: flat, but many.
func gobMapBomb(fields, levels int) string {
	var b []byte
	last := int64(gobUser + 1<<levels - 2)
	for i := int64(1); i < 1<<levels; i++ {
		key, elem := gobUser+2*i-1, gobUser+2*i
		if elem > last {
			key, elem = gobInt, gobInt
		}
		b = append(b, gobDefinition(gobUser+i-1, 4, appendGobInt(append(appendGobInt([]byte{1}, key), 1), elem))...)
	}
	b = append(b, gobDefinition(last+1, 3, gobFields(fields, gobUser))...)
	value := append(appendGobInt(nil, last+1), 0)
	return string(append(append(b, byte(len(value))), value...))
}

// TestGobTypes: what a peer describes costs no more than what it sends.
func TestGobTypes(t *testing.T) {
	for name, data := range map[string]string{"lists": gobTypeBomb(200, 5000), "maps": gobMapBomb(2000, 9)} {
		before := allocated()
		err := decodeCoded(coded(Gob, data), Gob, new(struct{ N int }))
		if n := allocated() - before; !errors.Is(err, ErrBadMessage) || !strings.Contains(err.Error(), "100,000 values") || n > 16<<20 {
			t.Errorf("%s, %d bytes: %v; %d bytes allocated", name, len(data), err, n)
		}
	}
}

// TestGobRecursiveTypes: types that hold themselves, and fields that the receiver has not, cross as before.
func TestGobRecursiveTypes(t *testing.T) {
	type tree map[string]tree
	type sent struct {
		N        int
		Trees    []map[string]tree
		Children []*sent
	}
	b, err := appendCoded(nil, Gob, &sent{N: 7, Trees: []map[string]tree{{"a": {"b": nil}}}, Children: []*sent{{N: 8}}})
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ N int }
	if err := decodeCoded(b, Gob, &got); err != nil || got.N != 7 {
		t.Error(got, err)
	}
}
