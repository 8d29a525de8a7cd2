//! The canonical path of a file that need not exist.

use rustix::fs::FileType;
use rustix::io::Errno;

/// Longest path, as the kernel's.
const PATH_MAX: usize = 4096;

/// Most symbolic links on the way.
const MAX_LINKS: usize = 32;

/// Resolves `path` as OpenSSH's sftp-server does: without `.`, `..` and symbolic links; only its last component may be
/// missing, and then without a slash behind it. The empty path is the current directory.
pub fn realpath(path: &[u8]) -> Result<Vec<u8>, Errno> {
    let mut resolved = if path.first() == Some(&b'/') { b"/".to_vec() } else { current_directory()? };
    let mut left = path.to_vec();
    let mut links = 0;
    while !left.is_empty() {
        if left.len() >= PATH_MAX || resolved.len() >= PATH_MAX {
            return Err(Errno::NAMETOOLONG);
        }
        let (component, rest) = split(&left);
        match component {
            b"" | b"." => {}
            b".." => pop(&mut resolved),
            name => {
                push(&mut resolved, name);
                match target(&resolved) {
                    Ok(None) => {}
                    Ok(Some(link)) => {
                        links += 1;
                        if links > MAX_LINKS {
                            return Err(Errno::LOOP);
                        }
                        pop(&mut resolved);
                        if link.first() == Some(&b'/') {
                            resolved.truncate(1);
                        }
                        left = follow(link, rest);
                        continue;
                    }
                    Err(Errno::NOENT) if rest.is_none() => return Ok(resolved),
                    Err(errno) => return Err(errno),
                }
            }
        }
        left = rest.unwrap_or_default().to_vec();
    }
    Ok(resolved)
}

/// What a link points to; `None` when it is none.
fn target(path: &[u8]) -> Result<Option<Vec<u8>>, Errno> {
    match FileType::from_raw_mode(rustix::fs::lstat(path)?.st_mode) {
        FileType::Symlink => Ok(Some(rustix::fs::readlink(path, Vec::new())?.into_bytes())),
        _ => Ok(None),
    }
}

/// The way on behind a link.
fn follow(mut link: Vec<u8>, rest: Option<&[u8]>) -> Vec<u8> {
    if let Some(rest) = rest {
        link.push(b'/');
        link.extend_from_slice(rest);
    }
    link
}

fn current_directory() -> Result<Vec<u8>, Errno> {
    Ok(rustix::process::getcwd(Vec::new())?.into_bytes())
}

/// The first component, and what follows its slash if it has one.
fn split(path: &[u8]) -> (&[u8], Option<&[u8]>) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(slash) => (&path[..slash], Some(&path[slash + 1..])),
        None => (path, None),
    }
}

fn push(path: &mut Vec<u8>, name: &[u8]) {
    if path.last() != Some(&b'/') {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

fn pop(path: &mut Vec<u8>) {
    let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
    path.truncate(parent.max(1));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    /// `dir/file`, `up -> dir/../dir`, `loop -> loop`, `away -> missing`, `absolute -> /`.
    fn place() -> (tempfile::TempDir, PathBuf) {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().canonicalize().unwrap();
        fs::create_dir(root.join("dir")).unwrap();
        fs::write(root.join("dir/file"), "").unwrap();
        symlink("dir/../dir", root.join("up")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("missing", root.join("away")).unwrap();
        symlink("/", root.join("absolute")).unwrap();
        (scratch, root)
    }

    fn resolved(path: &std::path::Path) -> Result<PathBuf, Errno> {
        realpath(path.as_os_str().as_bytes()).map(|path| std::ffi::OsString::from_vec(path).into())
    }

    #[test]
    fn dots_and_links_are_resolved() {
        let (_scratch, root) = place();
        for (path, expected) in [
            ("dir/./file", root.join("dir/file")),
            ("dir/../dir//file/", root.join("dir/file")),
            ("up/file", root.join("dir/file")),
            ("up", root.join("dir")),
            ("absolute", "/".into()),
            ("absolute/..", "/".into()),
        ] {
            assert_eq!(resolved(&root.join(path)), Ok(expected), "{path}");
        }
        assert_eq!(realpath(b"/"), Ok(b"/".to_vec()));
        assert_eq!(realpath(b"//../.."), Ok(b"/".to_vec()));
        assert_eq!(realpath(b"."), realpath(b""));
    }

    #[test]
    fn only_the_last_component_may_be_missing() {
        let (_scratch, root) = place();
        assert_eq!(resolved(&root.join("dir/new")), Ok(root.join("dir/new")));
        assert_eq!(resolved(&root.join("away")), Ok(root.join("missing")));
        assert_eq!(resolved(&root.join("new/")), Err(Errno::NOENT));
        assert_eq!(resolved(&root.join("new/x")), Err(Errno::NOENT));
        assert_eq!(resolved(&root.join("dir/file/x")), Err(Errno::NOTDIR));
    }

    #[test]
    fn loops_and_endless_paths_end() {
        let (_scratch, root) = place();
        assert_eq!(resolved(&root.join("loop")), Err(Errno::LOOP));
        assert_eq!(realpath(&b"/a".repeat(PATH_MAX)), Err(Errno::NAMETOOLONG));
    }

    #[test]
    fn a_path_that_is_no_text_keeps_its_bytes() {
        let (_scratch, root) = place();
        let mut path = root.as_os_str().as_bytes().to_vec();
        path.extend_from_slice(b"/\xff\xfe");
        assert_eq!(realpath(&path), Ok(path));
    }
}
