package main

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

// inspectCommand prints one line per image, "NAME DIGEST"; an image without a full name is printed as "-".
func inspectCommand(paths []string, out io.Writer) error {
	if len(paths) == 0 {
		return errors.New("inspect needs at least one archive")
	}
	for _, path := range paths {
		idx, err := readIndex(path)
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		for _, m := range idx.Manifests {
			name := m.Annotations[annotationName]
			if name == "" {
				name = "-"
			}
			fmt.Fprintln(out, name, m.Digest)
		}
	}
	return nil
}

func readIndex(path string) (index, error) {
	var idx index
	f, err := os.Open(path)
	if err != nil {
		return idx, err
	}
	defer f.Close()
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return idx, errors.New("it has no index.json, so it is no OCI archive")
		}
		if err != nil {
			return idx, err
		}
		if h.Name == "index.json" || h.Name == "./index.json" {
			return idx, json.NewDecoder(r).Decode(&idx)
		}
	}
}
