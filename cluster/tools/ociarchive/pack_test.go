package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func packTree(t *testing.T, modified time.Time) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root")
	file := filepath.Join(root, "bin", "hello")
	for _, err := range []error{
		os.MkdirAll(filepath.Dir(file), 0o755),
		os.WriteFile(file, []byte("hello"), 0o755),
		os.Symlink("hello", filepath.Join(root, "bin", "hi")),
		os.Chtimes(file, modified, modified),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	out := filepath.Join(dir, "image.tar")
	if err := run([]string{"pack", "-name", "localhost/hello:1", "-out", out, "-root", root, "-entrypoint", "/bin/hello"}); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPackGivesTheSameBytesForTheSameFiles(t *testing.T) {
	first, err := os.ReadFile(packTree(t, time.Unix(1, 0)))
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(packTree(t, time.Unix(2, 0)))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(first, second) {
		t.Error("the archives of equal trees differ")
	}
}

func TestInspectFindsWhatPackWrote(t *testing.T) {
	var out bytes.Buffer
	if err := inspectCommand([]string{packTree(t, time.Unix(1, 0))}, &out); err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(out.String(), "localhost/hello:1 sha256:") {
		t.Errorf("got %q", out.String())
	}
}

func TestPackLeavesNoPartialFiles(t *testing.T) {
	out := packTree(t, time.Unix(1, 0))
	entries, err := os.ReadDir(filepath.Dir(out))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 2 {
		t.Errorf("got %v, want only the tree and the archive", entries)
	}
}

func TestTagOf(t *testing.T) {
	for name, want := range map[string]string{"a/b:1": "1", "host:5000/a": "latest", "host:5000/a:2": "2"} {
		if got := tagOf(name); got != want {
			t.Errorf("tagOf(%q) = %q, want %q", name, got, want)
		}
	}
}
