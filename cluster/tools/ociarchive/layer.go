package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// layerFromDir writes the tree below root as a tar in dir, every file owned by root, and returns its path.
func layerFromDir(root, dir string) (string, error) {
	f, err := os.CreateTemp(dir, ".layer-*.tar")
	if err != nil {
		return "", err
	}
	w := tar.NewWriter(f)
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil || name == "." {
			return err
		}
		return addEntry(w, name, path, entry)
	})
	if err := errors.Join(err, w.Close(), f.Close()); err != nil {
		os.Remove(f.Name())
		return "", err
	}
	return f.Name(), nil
}

func addEntry(w *tar.Writer, name, path string, entry fs.DirEntry) error {
	info, err := entry.Info()
	if err != nil {
		return err
	}
	if info.Mode().IsRegular() {
		return addRegular(w, name, path, info)
	}
	target := ""
	if info.Mode()&fs.ModeSymlink != 0 {
		if target, err = os.Readlink(path); err != nil {
			return err
		}
	} else if !info.IsDir() {
		return fmt.Errorf("%s is neither a file, a directory nor a symbolic link", path)
	}
	header, err := tar.FileInfoHeader(info, target)
	if err != nil {
		return err
	}
	return w.WriteHeader(plain(header, name, info.IsDir()))
}

func addRegular(w *tar.Writer, name, path string, info fs.FileInfo) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	header, err := tar.FileInfoHeader(info, "")
	if err != nil {
		return err
	}
	if err := w.WriteHeader(plain(header, name, false)); err != nil {
		return err
	}
	_, err = f.WriteTo(w)
	return err
}

func plain(h *tar.Header, name string, dir bool) *tar.Header {
	if dir {
		name += "/"
	}
	return &tar.Header{Name: name, Typeflag: h.Typeflag, Linkname: h.Linkname, Mode: h.Mode, Size: h.Size, ModTime: time.Unix(0, 0)}
}
