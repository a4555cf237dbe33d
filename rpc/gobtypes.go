package rpc

// This file is pure. It holds the part of rule B12 that is about types rather than values.

// learn counts what gob makes of the descriptions: for each field that the receiver has not, whether a value has it or not, a function for
// each list and map on the way down to what is none. Of a field in five bytes it made 800 kB.
func (w *gobWalk) learn() {
	for _, t := range w.types {
		for _, id := range t.fields {
			w.skipped(id)
		}
	}
}

// skipped counts the lists and maps that a type consists of, each once.
func (w *gobWalk) skipped(id int64) {
	var seen map[int64]bool // of most fields there is none
	for due := []int64{id}; len(due) > 0 && w.bad == ""; {
		id, due = due[len(due)-1], due[:len(due)-1]
		t := w.types[id]
		if t == nil || seen[id] || t.kind != gobList && t.kind != gobMap {
			continue
		}
		w.one()
		if seen == nil {
			seen = make(map[int64]bool)
		}
		seen[id] = true
		if due = append(due, t.elem); t.kind == gobMap {
			due = append(due, t.key)
		}
	}
}
