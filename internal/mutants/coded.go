package main

// codedMutants are what keeps apart bodies in codecs and others, and what is checked before JSON and gob.
var codedMutants = []mutant{
	{"B9", "types of which nothing would be sent", "rpc/fit.go", "	if p.hollow {", "	if false {", codedTests},
	{"B10", "a body in a codec where there is none", "rpc/codec.go", "	if isCoded(b) {\n		return errCoded\n	}\n	t :=", "	t :=", codedTests},
	{"B10", "a body without codec where one is due", "rpc/coded.go", "	if !isCoded(b) {\n		return nil, &badMessage{\"it is", "	if false {\n		return nil, &badMessage{\"it is", codedTests},
	{"B10", "a body in another codec", "rpc/coded.go", "	if name.kind != tokStr || string(b[name.start:name.end]) != c.Name() {", "	if name.kind != tokStr {", codedTests},
	{"B10", "JSON that is binary", "rpc/coded.go", "	if data.kind != want {", "	if false && data.kind != want {", codedTests},
	{"B10", "a method of a type that panics", "rpc/coded.go", "		if recover() != nil {", "		if false && recover() != nil {", codedTests},
	{"B10", "what an error of encoding/json quotes", "rpc/codecjson.go", "	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {", "	if bad, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {\n		return &badMessage{bad.Error(), 0}\n	} else if ok {", codedTests},
	{"B10", "a nil request", "rpc/coded.go", "		v.Elem().Set(reflect.New(v.Elem().Type().Elem()))\n		v = v.Elem()\n	}\n	if", "		if len(b) == 1 {\n			return nil\n		}\n		v.Elem().Set(reflect.New(v.Elem().Type().Elem()))\n		v = v.Elem()\n	}\n	if", codedTests},
	{"B11", "JSON deeper than 32", "rpc/codecjson.go", "			if depth++; depth > maxDepth {", "			if depth++; depth < 0 {", codedTests},
	{"B11", "more than 100,000 values of JSON", "rpc/codecjson.go", "		if values > maxElements {", "		if values < 0 {", codedTests},
	{"B11", "brackets in JSON's text", "rpc/codecjson.go", "		case inText && c == '\\\\':", "		case false:", codedTests},
	{"B12", "the check before gob", "rpc/codecgob.go", "	if err := checkGob(b); err != nil {", "	if err := checkGob(b); false {", "TestGobHostile"},
	{"B12", "a message of a gob longer than what is left", "rpc/gobwalk.go", "	if n > uint64(len(w.b)-w.off) {", "	if false {", codedTests},
	{"B12", "more than 100,000 values of a gob", "rpc/gobwalk.go", "	if w.values++; w.values > maxElements {", "	if w.values++; w.values < 0 {", codedTests},
	{"B12", "what gob makes of the types of a gob", "rpc/gobtypes.go", "		w.one()\n", "", codedTests},
	{"B12", "a gob deeper than 32", "rpc/gobwalk.go", "	if depth == maxDepth {", "	if depth < 0 {", codedTests},
	{"B12", "bytes behind a gob's value", "rpc/gobwalk.go", "	if w.off != len(w.b) {", "	if false {", codedTests},
	{"B12", "bytes behind a gob's description", "rpc/gobwalk.go", "		if w.off != w.end {", "		if false {", codedTests},
	{"B12", "a type that a gob describes twice", "rpc/gobwalk.go", "w.types[id] != nil || id < gobUser", "id < gobUser", codedTests},
	{"B12", "a type that a gob describes, of a number that is taken", "rpc/gobwalk.go", "id < gobUser || ", "", codedTests},
	{"B12", "a type whose number gob cuts to another", "rpc/gobwalk.go", " || id > math.MaxInt32", " || id > math.MaxInt64-1", codedTests},
	{"B12", "a type that is a list and a map", "rpc/gobwalk.go", "	if forms != 1 {", "	if forms == 0 {", codedTests},
	{"B12", "a length of an interface that is not that of its value", "rpc/gobwalk.go", "w.off != end && !w.lax", "w.off != end && false", codedTests},
	{"B12", "an interface in itself, without end", "rpc/gobwalk.go", "	if id == gobInterface {", "	if false {", codedTests},
	{"B12", "a field that was not described", "rpc/gobwalk.go", "		if delta > uint64(fields-1-at) {", "		if false {", codedTests},
	{"B12", "a type that was not described", "rpc/gobwalk.go", "	if t == nil {", "	if t == nil {\n		w.off = w.end\n		return\n	}\n	if t == nil {", codedTests},
	{"C4", "what an interceptor learns of a call that it refused", "rpc/metadata.go", "ran <= 0 || refused", "refused", "InfoOutcome"},
	{"C4", "what an interceptor learns of a request that does not fit", "rpc/metadata.go", "ran <= 0 || refused && ran == 1", "ran <= 0 || refused && false", "InfoOutcome"},
}

const codedTests = "TestTypes|TestCode|TestOwnCodec|TestGob|TestVectors|FuzzGob|FuzzCoded"
