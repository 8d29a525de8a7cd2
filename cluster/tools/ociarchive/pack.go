package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

type list []string

func (l *list) String() string     { return strings.Join(*l, " ") }
func (l *list) Set(s string) error { *l = append(*l, s); return nil }

type packOptions struct {
	name, out, root, layer string
	runtime                runtimeConfig
}

func packCommand(args []string) error {
	var o packOptions
	var entrypoint, cmd, env list
	flags := flag.NewFlagSet("pack", flag.ContinueOnError)
	flags.StringVar(&o.name, "name", "", "full image name, such as localhost/pause:1")
	flags.StringVar(&o.out, "out", "", "the archive to write")
	flags.StringVar(&o.root, "root", "", "directory that becomes the image's root")
	flags.StringVar(&o.layer, "layer", "", "tar (not compressed) that becomes the image's root")
	flags.StringVar(&o.runtime.WorkingDir, "workdir", "", "working directory")
	flags.StringVar(&o.runtime.User, "user", "", "user, as UID or UID:GID")
	flags.Var(&entrypoint, "entrypoint", "one word of the entrypoint; may be repeated")
	flags.Var(&cmd, "cmd", "one word of the default arguments; may be repeated")
	flags.Var(&env, "env", "one variable, as NAME=VALUE; may be repeated")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if o.name == "" || o.out == "" || (o.root == "") == (o.layer == "") || flags.NArg() > 0 {
		return errors.New("pack needs -name, -out and either -root or -layer")
	}
	o.runtime.Entrypoint, o.runtime.Cmd, o.runtime.Env = entrypoint, cmd, env
	return pack(o)
}

func pack(o packOptions) error {
	layer := o.layer
	if o.root != "" {
		made, err := layerFromDir(o.root, filepath.Dir(o.out))
		if err != nil {
			return err
		}
		defer os.Remove(made)
		layer = made
	}
	layerDesc, err := describeFile(layer, typeLayer)
	if err != nil {
		return err
	}
	config, err := json.Marshal(imageConfig{
		Architecture: runtime.GOARCH,
		OS:           "linux",
		Config:       o.runtime,
		RootFS:       rootFS{Type: "layers", DiffIDs: []string{layerDesc.Digest}},
	})
	if err != nil {
		return err
	}
	body, err := json.Marshal(manifest{
		SchemaVersion: 2,
		MediaType:     typeManifest,
		Config:        describe(config, typeConfig),
		Layers:        []descriptor{layerDesc},
	})
	if err != nil {
		return err
	}
	top := describe(body, typeManifest)
	top.Annotations = map[string]string{annotationName: o.name, annotationRef: tagOf(o.name)}
	indexBody, err := json.Marshal(index{SchemaVersion: 2, MediaType: typeIndex, Manifests: []descriptor{top}})
	if err != nil {
		return err
	}
	return writeAtomically(o.out, func(w *tar.Writer) error {
		for _, e := range []struct {
			name string
			body []byte
		}{
			{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)},
			{"index.json", indexBody},
			{blobPath(top.Digest), body},
			{blobPath(describe(config, typeConfig).Digest), config},
		} {
			if err := addBytes(w, e.name, e.body); err != nil {
				return err
			}
		}
		return addFile(w, blobPath(layerDesc.Digest), layer, layerDesc.Size)
	})
}

func tagOf(name string) string {
	last := name[strings.LastIndex(name, "/")+1:]
	if i := strings.Index(last, ":"); i >= 0 {
		return last[i+1:]
	}
	return "latest"
}

func blobPath(digest string) string { return "blobs/" + strings.Replace(digest, ":", "/", 1) }

func describe(body []byte, mediaType string) descriptor {
	return descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", sha256.Sum256(body)), Size: int64(len(body))}
}

func describeFile(path, mediaType string) (descriptor, error) {
	f, err := os.Open(path)
	if err != nil {
		return descriptor{}, err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	return descriptor{MediaType: mediaType, Digest: fmt.Sprintf("sha256:%x", h.Sum(nil)), Size: n}, err
}

// A reader must never see half an archive, so it is renamed into place.
func writeAtomically(path string, fill func(*tar.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), ".ociarchive-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	w := tar.NewWriter(f)
	if err := errors.Join(fill(w), w.Close(), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

func addBytes(w *tar.Writer, name string, body []byte) error {
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(body)), Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err := io.Copy(w, bytes.NewReader(body))
	return err
}

func addFile(w *tar.Writer, name, path string, size int64) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); err != nil {
		return err
	}
	_, err = io.Copy(w, f)
	return err
}
