package deploy

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/unit"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"
)

// TestUnit starts what the unit starts, as a service manager that waits to be told.
func TestUnit(t *testing.T) {
	options, err := unit.DeserializeOptions(strings.NewReader(read(t, "sealmux.service")))
	if err != nil {
		t.Fatal(err)
	}
	value := func(name string) string {
		for _, o := range options {
			if o.Name == name {
				return o.Value
			}
		}
		t.Fatalf("the unit has no %s", name)
		return ""
	}
	start := strings.Fields(value("ExecStart"))
	wait, err := time.ParseDuration(value("TimeoutStopSec") + "s")
	if err != nil {
		t.Fatal(err)
	}
	drains(t, start, wait)

	h := newHost(t)
	address := h.path("notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close()
	s := serve(t, []string{"NOTIFY_SOCKET=" + address},
		in(start[1:], ":7443", "127.0.0.1:0", "%d", h.path("keys"), "/etc/sealmux/clients", h.path("clients"))...)
	buf := make([]byte, 100)
	manager.SetReadDeadline(time.Now().Add(time.Minute))
	if n, err := manager.Read(buf); value("Type") != "notify" || err != nil || string(buf[:n]) != "READY=1" {
		t.Errorf("type %s, told %q: %v", value("Type"), buf[:n], err)
	}
	s.stop(t)

	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Log("systemd is not here to look at the unit itself")
		return
	}
	installed := strings.ReplaceAll(read(t, "sealmux.service"), start[0], program(t))
	path := h.path("sealmux.service")
	if err := os.WriteFile(path, []byte(installed), 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("systemd-analyze", "verify", path).CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

func dockerfile(t *testing.T) []instructions.Stage {
	t.Helper()
	parsed, err := parser.Parse(strings.NewReader(read(t, "Dockerfile")))
	if err != nil {
		t.Fatal(err)
	}
	stages, _, err := instructions.Parse(parsed.AST, nil)
	if err != nil || len(stages) != 2 {
		t.Fatalf("%d stages: %v", len(stages), err)
	}
	return stages
}

// buildLine is the last RUN of the first stage.
func buildLine(t *testing.T) (line string) {
	for _, c := range dockerfile(t)[0].Commands {
		if run, ok := c.(*instructions.RunCommand); ok {
			line = strings.Join(run.CmdLine, " ")
		}
	}
	return line
}

// TestDockerfile starts the program with the image's command and environment.
func TestDockerfile(t *testing.T) {
	h := newHost(t)
	var args, env []string
	for _, c := range dockerfile(t)[1].Commands {
		switch c := c.(type) {
		case *instructions.EnvCommand:
			for _, pair := range c.Env {
				value := strings.NewReplacer(":7443", "127.0.0.1:0", "/keys/clients", h.path("clients"), "/keys", h.path("keys")).Replace(pair.Value)
				env = append(env, pair.Key+"="+value)
			}
		case *instructions.EntrypointCommand:
			if !slices.Equal(c.CmdLine, []string{"/sealmux"}) {
				t.Errorf("entry point %q", c.CmdLine)
			}
		case *instructions.CmdCommand:
			args = c.CmdLine
		case *instructions.UserCommand:
			if c.User != "65532:65532" {
				t.Errorf("user %q", c.User)
			}
		}
	}
	serve(t, env, args...).stop(t)
}

// TestKubernetes decodes every object with no field unknown, and starts a pod's program and its probe.
func TestKubernetes(t *testing.T) {
	var service corev1.Service
	var deployment appsv1.Deployment
	var budget policyv1.PodDisruptionBudget
	objects := strings.Split(read(t, "kubernetes.yaml"), "\n---\n")
	for i, into := range []any{&service, &deployment, &budget} {
		if len(objects) != 3 {
			t.Fatalf("%d objects", len(objects))
		}
		if err := yaml.UnmarshalStrict([]byte(objects[i]), into); err != nil {
			t.Fatal(err)
		}
	}
	pod := deployment.Spec.Template
	for _, selector := range []map[string]string{service.Spec.Selector, deployment.Spec.Selector.MatchLabels, budget.Spec.Selector.MatchLabels} {
		if len(selector) == 0 || selector["app"] != pod.Labels["app"] {
			t.Errorf("%v does not select %v", selector, pod.Labels)
		}
	}
	if service.Spec.ClusterIP != corev1.ClusterIPNone {
		t.Error("the service is not headless")
	}
	c := pod.Spec.Containers[0]
	if port := c.Ports[0].ContainerPort; port != service.Spec.Ports[0].Port || c.Args[2] != ":7443" || port != 7443 {
		t.Errorf("ports %v and %v", c.Ports, service.Spec.Ports)
	}
	for _, mount := range c.VolumeMounts {
		if !slices.ContainsFunc(pod.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == mount.Name }) {
			t.Errorf("no volume %s", mount.Name)
		}
	}
	if mode := pod.Spec.Volumes[0].Secret.DefaultMode; mode == nil || *mode != 0o440 {
		t.Errorf("the mode of the key is %v", mode)
	}
	drains(t, c.Args, time.Duration(*pod.Spec.TerminationGracePeriodSeconds)*time.Second)

	h := newHost(t)
	s := serve(t, nil, in(c.Args, ":7443", "127.0.0.1:0", "/keys", h.path("keys"), "/clients", h.path("clients"))...)
	probe := c.ReadinessProbe.Exec.Command
	if filepath.Clean(probe[0]) != "/sealmux" {
		t.Errorf("the probe runs %s", probe[0])
	}
	tool(t, in(probe[1:], "/keys", h.path("keys"), "127.0.0.1:7443", s.addr)...)
	s.stop(t)
	if out, err := exec.Command(program(t), in(probe[1:], "/keys", h.path("keys"), "127.0.0.1:7443", s.addr)...).CombinedOutput(); err == nil {
		t.Errorf("the probe finds a server that has ended: %s", out)
	}
}
