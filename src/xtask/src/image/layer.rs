//! A layer from files of the host.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Component, Path, PathBuf},
};

use anyhow::Context as _;
use tar::{Builder, EntryType, Header};

/// What is at a path of the layer.
enum Entry {
    Folder(u32),
    File(PathBuf, u32),
    Link(PathBuf),
}

/// An uncompressed tar: sorted, owned by root, and without times.
pub fn pack(files: &[(String, String)], folders: &[String]) -> anyhow::Result<Vec<u8>> {
    let mut entries = BTreeMap::new();
    for folder in folders {
        let (path, mode) = folder.split_once('=').unwrap_or((folder, "755"));
        let mode = u32::from_str_radix(mode, 8).with_context(|| format!("{folder}: the mode isn't octal"))?;
        insert(&mut entries, &relative(path)?, Entry::Folder(mode));
    }
    for (from, to) in files {
        collect(&mut entries, Path::new(from), &relative(to)?)?;
    }
    let mut tar = Builder::new(Vec::new());
    for (path, entry) in &entries {
        append(&mut tar, path, entry).with_context(|| format!("packing {}", path.display()))?;
    }
    Ok(tar.into_inner()?)
}

/// A named file is followed when it is a link; links inside a folder stay links.
fn collect(entries: &mut BTreeMap<PathBuf, Entry>, from: &Path, to: &Path) -> anyhow::Result<()> {
    let from = fs::canonicalize(from).with_context(|| format!("looking for {}", from.display()))?;
    collect_exact(entries, &from, to)
}

fn collect_exact(entries: &mut BTreeMap<PathBuf, Entry>, from: &Path, to: &Path) -> anyhow::Result<()> {
    let metadata = fs::symlink_metadata(from).with_context(|| format!("looking for {}", from.display()))?;
    // Whether the builder's umask kept others out must not change the image.
    let mode = if metadata.is_dir() || metadata.permissions().mode() & 0o111 != 0 { 0o755 } else { 0o644 };
    if metadata.is_symlink() {
        insert(entries, to, Entry::Link(fs::read_link(from)?));
    } else if metadata.is_dir() {
        insert(entries, to, Entry::Folder(mode));
        for child in fs::read_dir(from)? {
            let child = child?;
            collect_exact(entries, &child.path(), &to.join(child.file_name()))?;
        }
    } else {
        insert(entries, to, Entry::File(from.to_owned(), mode));
    }
    Ok(())
}

/// Inserts an entry and the folders above it.
fn insert(entries: &mut BTreeMap<PathBuf, Entry>, path: &Path, entry: Entry) {
    for above in path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty()) {
        entries.entry(above.to_owned()).or_insert(Entry::Folder(0o755));
    }
    if !path.as_os_str().is_empty() {
        entries.insert(path.to_owned(), entry);
    }
}

fn append(tar: &mut Builder<Vec<u8>>, path: &Path, entry: &Entry) -> anyhow::Result<()> {
    let mut header = Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header.set_size(0);
    match entry {
        Entry::Folder(mode) => {
            header.set_entry_type(EntryType::Directory);
            header.set_mode(*mode);
            tar.append_data(&mut header, path.join(""), std::io::empty())?;
        }
        Entry::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_mode(0o777);
            tar.append_link(&mut header, path, target)?;
        }
        Entry::File(from, mode) => {
            let bytes = fs::read(from)?;
            header.set_entry_type(EntryType::Regular);
            header.set_mode(*mode);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())?;
        }
    }
    Ok(())
}

fn relative(path: &str) -> anyhow::Result<PathBuf> {
    let path = path.strip_prefix('/').with_context(|| format!("{path}: a path in an image begins with /"))?;
    let path = Path::new(path);
    anyhow::ensure!(
        path.components().all(|c| matches!(c, Component::Normal(_))),
        "{}: no . or ..",
        path.display()
    );
    Ok(path.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_same_files_give_the_same_bytes_whatever_their_times_and_modes_for_others() {
        let mut layers = Vec::new();
        for mode in [0o700, 0o755] {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("a");
            fs::write(&file, "hello").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            let pair = (file.to_str().unwrap().to_owned(), "/usr/bin/a".to_owned());
            layers.push(pack(&[pair], &["/tmp=1777".to_owned()]).unwrap());
        }
        assert_eq!(layers[0], layers[1]);
        let mut tar = tar::Archive::new(layers[0].as_slice());
        let list: Vec<_> = tar
            .entries()
            .unwrap()
            .map(|e| {
                e.map(|e| (e.path().unwrap().display().to_string(), e.header().mode().unwrap())).unwrap()
            })
            .collect();
        let expected = [("tmp/", 0o1777), ("usr/", 0o755), ("usr/bin/", 0o755), ("usr/bin/a", 0o755)];
        assert_eq!(list, expected.map(|(path, mode)| (path.to_owned(), mode)));
    }

    #[test]
    fn a_path_outside_of_the_image_is_refused() {
        assert!(relative("a").is_err());
        assert!(relative("/a/../../b").is_err());
    }
}
