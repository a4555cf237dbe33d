package transport

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// What the models use of Verifpal 1.4: least and most arguments, outputs, and 1 if `?` may check it.
var primitives = map[string][4]int{"PUBKEY": {1, 1, 1, 0}, "DH_KEX": {2, 2, 1, 0}, "HASH": {1, 5, 1, 0}, "CONCAT": {2, 5, 1, 0},
	"SPLIT": {1, 1, 5, 1}, "HKDF": {3, 3, 5, 0}, "PKE_ENC": {2, 2, 1, 0}, "PKE_DEC": {2, 2, 1, 0}, "SIGN": {2, 2, 1, 0},
	"SIGNVERIF": {3, 3, 1, 1}, "AEAD_ENC": {4, 4, 1, 0}, "AEAD_DEC": {4, 4, 1, 1}}

var (
	nameForm = regexp.MustCompile(`^[a-z][a-z0-9]*$`)
	reserved = regexp.MustCompile(`^(attacker.*|unnamed.*|active|passive|principal|phase|public|private|password|primitive|queries` +
		`|knows|leaks|generates|g|nil|dh|hash|hkdf|concat|split|enc|dec|mac|sign|assert)$`)
	callForm    = regexp.MustCompile(`^([A-Z_]+)\((.*)\)(\??)$`)
	declareForm = regexp.MustCompile(`^(knows public|knows private|generates|leaks) (.+)$`)
	messageForm = regexp.MustCompile(`^(Client|Server) -> (Client|Server): (.+)$`)
	queryForm   = regexp.MustCompile(`^(confidentiality|freshness|authentication)\? (?:(Client|Server) -> (Client|Server): )?([a-z0-9]+)$`)
	expectForm  = regexp.MustCompile(`(?m)^// Expected: (\S+)`)
)

// model is what has been read of a model. A term is the value of a constant in the run without an attacker: what its text
// says, with all that can be decrypted decrypted. terms has each by a short name: a primitive, an output and arguments.
type model struct {
	how, value map[string]string // of each constant: what declared it, and its term
	facts      map[string]bool   // "Client knows x", "Client received x", "Client used x"
	terms      [][]string
	faults     []string
}

func (m *model) need(ok bool, format string, args ...any) {
	if !ok {
		m.faults = append(m.faults, fmt.Sprintf(format, args...))
	}
}

func (m *model) declare(who, name, how, term string) {
	again := m.how[name] == how && strings.HasPrefix(how, "knows")
	m.need(m.how[name] == "" || again, "%s declares %q again", who, name)
	m.need(nameForm.MatchString(name) && !reserved.MatchString(name), "%q cannot be a name", name)
	m.how[name], m.value[name], m.facts[who+" knows "+name] = how, term, true
	if how == "knows public" {
		m.facts["Client knows "+name], m.facts["Server knows "+name] = true, true
	}
}

// term returns the short name of a primitive's value. pass is false if a check by `?` would have failed.
func (m *model) term(head string, output int, args []string) (short string, pass bool) {
	in := func(i int) []string { // what the argument is made of; six entries at least
		var n int
		if _, err := fmt.Sscanf(args[i], "#%d", &n); err != nil {
			return make([]string, 6)
		}
		return append(slices.Clone(m.terms[n]), "", "", "", "")
	}
	pub := func(key string) string { short, _ := m.term("PUBKEY", 0, []string{key}); return short }
	switch {
	case head == "DH_KEX" && in(0)[0] == "PUBKEY" && in(0)[2] > args[1]:
		args = []string{pub(args[1]), in(0)[2]}
	case head == "PKE_DEC" && in(1)[0] == "PKE_ENC" && in(1)[2] == pub(args[0]):
		return in(1)[3], true
	case head == "AEAD_DEC" && in(2)[0] == "AEAD_ENC" && args[0] == in(2)[2] && args[1] == in(2)[3] && args[3] == in(2)[5]:
		return in(2)[4], true
	case head == "SPLIT" && in(0)[0] == "CONCAT" && in(0)[2+output] != "":
		return in(0)[2+output], true
	case head == "SIGNVERIF" && in(2)[0] == "SIGN" && args[0] == pub(in(2)[2]) && args[1] == in(2)[3]:
		return "nil", true
	}
	term := append([]string{head, fmt.Sprint(output)}, args...)
	n := slices.IndexFunc(m.terms, func(t []string) bool { return slices.Equal(t, term) })
	if n < 0 {
		n, m.terms = len(m.terms), append(m.terms, term)
	}
	return fmt.Sprintf("#%d", n), primitives[head][3] == 0
}

// eval computes an expression of who's: a constant or a primitive. Only an outermost primitive may be checked by `?`.
func (m *model) eval(who, expr string, output int, outermost bool) string {
	call := callForm.FindStringSubmatch(expr)
	if call == nil {
		m.need(expr == "nil" || m.facts[who+" knows "+expr], "%s does not know %q", who, expr)
		m.facts[who+" used "+expr] = true
		return m.value[expr]
	}
	var args []string
	depth, start := 0, 0
	for i, c := range call[2] + "," {
		if c == ',' && depth == 0 {
			args, start = append(args, m.eval(who, strings.TrimSpace(call[2][start:i]), 0, false)), i+1
		}
		depth += strings.Count("(", string(c)) - strings.Count(")", string(c))
	}
	p, checked := primitives[call[1]], call[3] == "?"
	if len(args) < p[0] || len(args) > p[1] || output >= p[2] || checked && (p[3] == 0 || !outermost) {
		m.need(false, "%s: no such primitive, arguments, outputs or check", expr)
		return expr
	}
	term, pass := m.term(call[1], output, args)
	m.need(pass || !checked, "%s fails without an attacker", expr)
	return term
}

// checkModel returns what Verifpal would refuse in a model, and what would fail in it without an attacker. It asks for one
// statement a line, which Verifpal does not.
func checkModel(text string) []string {
	m := &model{how: map[string]string{}, value: map[string]string{"nil": "nil"}, facts: map[string]bool{}}
	block, phase, queries := "start", 0, ""
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "//")
		line = strings.TrimSpace(line)
		left, right, assigns := strings.Cut(line, " = ")
		declares, sends := declareForm.FindStringSubmatch(line), messageForm.FindStringSubmatch(line)
		asks := queryForm.FindStringSubmatch(line)
		inside := block == "Client" || block == "Server"
		switch {
		case line == "":
		case block == "start" && line == "attacker[active]", inside && line == "]":
			block = ""
		case block == "queries" && line == "]" && queries != "":
			block = "end"
		case block == "queries" && asks != nil:
			queries += asks[1][:1]
			from, to, name := asks[2], asks[3], asks[4]
			m.need(m.how[name] != "" && (asks[1] == "authentication") == (from != ""), "%s: of what?", line)
			m.need(from == "" || m.facts[from+" knows "+name] && m.facts[to+" received "+name] && m.facts[to+" used "+name],
				"%s: %s must know it, %s receive and use it", line, from, to)
		case block == "" && (line == "principal Client[" || line == "principal Server["):
			block = line[len("principal ") : len(line)-1]
		case block == "" && line == "queries[":
			block = "queries"
		case block == "" && line == fmt.Sprintf("phase[%d]", phase+1):
			phase++
		case block == "" && sends != nil:
			for name := range strings.SplitSeq(sends[3], ", ") {
				if strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") {
					name = name[1 : len(name)-1]
				}
				m.need(m.facts[sends[1]+" knows "+name] && !m.facts[sends[2]+" knows "+name], "%s: who knows %s?", line, name)
				m.facts[sends[2]+" knows "+name], m.facts[sends[2]+" received "+name] = true, true
			}
		case inside && assigns:
			for i, name := range strings.Split(left, ", ") {
				m.declare(block, name, "assigned", m.eval(block, right, i, true))
			}
		case inside && declares != nil:
			for name := range strings.SplitSeq(declares[2], ", ") {
				if declares[1] == "leaks" {
					m.need(m.facts[block+" knows "+name], "%s leaks %q and does not know it", block, name)
				} else {
					m.declare(block, name, declares[1], name)
				}
			}
		default:
			m.need(false, "%q cannot stand here", line)
		}
	}
	code := append(expectForm.FindStringSubmatch(text), "", "")[1]
	m.need(block == "end", "the model ends in %q", block)
	m.need(strings.NewReplacer("0", "", "1", "").Replace(code) == queries, "expects %q of queries %s", code, queries)
	return m.faults
}

func readModel(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata/model", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The models are as Verifpal would read them, and run to their end without an attacker. Whether their queries hold, Verifpal
// must say: testdata/model/README.md.
func TestModels(t *testing.T) {
	names, err := filepath.Glob("testdata/model/*.vp")
	if err != nil || len(names) < 6 {
		t.Fatalf("models %q, error %v", names, err)
	}
	readme := readModel(t, "README.md")
	for _, name := range names {
		name = filepath.Base(name)
		text := readModel(t, name)
		for _, fault := range checkModel(text) {
			t.Errorf("%s: %s", name, fault)
		}
		if code := expectForm.FindStringSubmatch(text)[1]; !strings.Contains(readme, "| `"+name+"` | `"+code+"` |") {
			t.Errorf("README.md does not have %s with result %s", name, code)
		}
	}
	// What a variant claims to share with its original, it shares.
	statements := func(name string) string {
		body, _, _ := strings.Cut(readModel(t, name), "queries[")
		return regexp.MustCompile(`(?m)^\s*//.*\n|^\n`).ReplaceAllString(body, "")
	}
	full, mutual := statements("sealmux.vp"), statements("sealmux-mutual.vp")
	early := strings.Replace(mutual, "private csk\n", "private csk\n\tleaks csk\n", 1)
	for name, want := range map[string]string{
		"sealmux-anonymous-expected-failures.vp": full,
		"sealmux-unpinned-expected-failures.vp":  strings.Replace(full, "[spk]", "spk", 1),
		"sealmux-kci.vp":                         strings.TrimSuffix(early, "principal Client[\n\tleaks csk\n]\n"),
	} {
		if statements(name) != want {
			t.Errorf("%s is no longer its original with the one change that it names", name)
		}
	}
}

// The check bites: each change to a good model is seen.
func TestModelsSpoiled(t *testing.T) {
	for _, c := range [][3]string{
		{"sealmux-mutual.vp", "PKE_ENC(spk, cs)", "PKE_ENC(spk)"},
		{"sealmux-mutual.vp", "sk1, sn1, sset, st1", "sk1, sset, st1"},
		{"sealmux-mutual.vp", "shand = HKDF(", "shand = HKFD("},
		{"sealmux-mutual.vp", "skem, sdh)", "skem, sdh"},
		{"sealmux-mutual.vp", "PKE_DEC(cdk, sct)", "PKE_DEC(cdk, sct)?"},
		{"sealmux-mutual.vp", "PKE_DEC(srsa", "PKE_DEC(sx"}, // what cannot be decrypted shows where keys must agree
		{"sealmux-mutual.vp", "AEAD_DEC(sk3", "AEAD_DEC(sk4"},
		{"sealmux-mutual.vp", "cblock, st2)?", "cblock, st1)?"},
		{"sealmux-mutual.vp", "DH_KEX(sshare, cx)", "DH_KEX(cshare, cx)"},
		{"sealmux-mutual.vp", "CONCAT(lauth, st2)", "CONCAT(lst, st2)"},
		{"sealmux-mutual.vp", "generates sx", "generates cs"},
		{"sealmux-mutual.vp", "generates sx", "generates split"},
		{"sealmux-mutual.vp", "knows private csk", "knows public csk, srsa"},
		{"sealmux-mutual.vp", "cshare, cek, cwrap\n", "cshare, cwrap\n"},
		{"sealmux-mutual.vp", "Client -> Server: crec", "Client -> Server: srec"},
		{"sealmux-mutual.vp", "[spk]", "[spk"},
		{"sealmux-mutual.vp", "leaks srsa", "leaks csk"},
		{"sealmux-mutual.vp", "phase[1]", "phase[2]"},
		{"sealmux-mutual.vp", "attacker[active]", ""},
		{"sealmux-mutual.vp", "]\n\nqueries[", "\nqueries["},
		{"sealmux-mutual.vp", "confidentiality? cdata", "confidentiality? data"},
		{"sealmux-mutual.vp", "? Server -> Client: srec", "? Server -> Client: crec"},
		{"sealmux-mutual.vp", "freshness? crec\n]", "freshness? crec\n"},
		{"sealmux-mutual.vp", "freshness? crec\n]", "freshness? crec\n]\nphase[2]"},
		{"sealmux-mutual.vp", "Expected: c0c0", "Expected: c0a0"},
		{"sealmux-resume.vp", "ctn, cticket = SPLIT", "cticket, ctn = SPLIT"},
		{"sealmux-resume.vp", "ctn, cticket = SPLIT", "ctn, cticket, cmore = SPLIT"},
		{"sealmux-resume.vp", "HKDF(lresumed, cres", "HKDF(lfull, cres"},
	} {
		good := readModel(t, c[0])
		if bad := strings.Replace(good, c[1], c[2], 1); bad == good || len(checkModel(bad)) == 0 {
			t.Errorf("%s: %q in place of %q is not seen", c[0], c[2], c[1])
		}
	}
}

// Verifpal's language before 1.0 had no nonces, and wrote G^x. testdata/model/classic has the models in it.
var classicForms = []struct {
	now    *regexp.Regexp
	before string
}{
	{regexp.MustCompile(`AEAD_(ENC|DEC)\((\w+), \w+, `), "AEAD_$1($2, "},
	{regexp.MustCompile(`PUBKEY\((\w+)\)`), "G^$1"},
	{regexp.MustCompile(`DH_KEX\((\w+), (\w+)\)`), "$1^$2"},
}

// TestModelsClassic: both forms of a model say the same. With -update the old ones are written anew.
func TestModelsClassic(t *testing.T) {
	files, err := filepath.Glob("testdata/model/*.vp")
	if err != nil || len(files) < 6 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		want := readModel(t, filepath.Base(file))
		for _, f := range classicForms {
			want = f.now.ReplaceAllString(want, f.before)
		}
		classic := filepath.Join("testdata/model/classic", filepath.Base(file))
		if *update {
			if err := os.WriteFile(classic, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if got := readModel(t, "classic/"+filepath.Base(file)); got != want {
			t.Errorf("%s is not %s in the older language; go test ./transport -run TestModelsClassic -update", classic, file)
		}
	}
}
