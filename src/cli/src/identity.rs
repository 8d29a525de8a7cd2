//! The key pair by which `spark ssh` is known to the Sparks that admit it.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{SystemTime, UNIX_EPOCH};

use ssh_key::PrivateKey;

use crate::errors::CliError;

/// Its private half, beside the user's own keys.
const FILE: &str = "spark_ed25519";

/// `~/.ssh`.
pub fn folder() -> Result<PathBuf, CliError> {
    let home = std::env::home_dir().filter(|home| home.is_absolute());
    home.map(|home| home.join(".ssh"))
        .ok_or_else(|| CliError::Usage("there is no home directory: set HOME".into()))
}

/// Makes that folder, for its user alone.
pub fn make_folder(folder: &Path) -> Result<(), CliError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(at(folder))
}

/// Where the key is in that folder, or will be.
pub fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

/// The key in that folder, which is made if there is none. Of several that make it at the same time one has made it.
pub fn ensure(folder: &Path) -> Result<PathBuf, CliError> {
    let path = path(folder);
    if !path.exists() {
        make_folder(folder)?;
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let beside = folder.join(format!(".{FILE}.{}.{}", std::process::id(), since.as_nanos()));
        DirBuilder::new().mode(0o700).create(&beside).map_err(at(&beside))?;
        let made = make(&beside, &path);
        let _ = std::fs::remove_dir_all(&beside);
        made?;
    }
    Ok(path)
}

fn make(beside: &Path, path: &Path) -> Result<(), CliError> {
    let new = beside.join(FILE);
    let mut keygen = Command::new("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "spark", "-f"]).arg(&new);
    let ended = keygen.stdin(Stdio::null()).output().map_err(at("ssh-keygen".as_ref()))?;
    if !ended.status.success() {
        let why = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
        return Err(CliError::Usage(format!("ssh-keygen made no key: {why}")));
    }
    match std::fs::hard_link(&new, path) {
        // The public half is in the private one too; its own file is there for people.
        Ok(()) => std::fs::rename(new.with_extension("pub"), path.with_extension("pub")).map_err(at(path)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(at(path)(error)),
    }
}

/// The public half of a key.
pub fn public(path: &Path) -> Result<String, CliError> {
    let read = std::fs::read_to_string(path).map_err(at(path))?;
    let public = PrivateKey::from_openssh(read).and_then(|key| key.public_key().to_openssh());
    public.map_err(|error| at(path)(io::Error::other(error)))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> CliError {
    let path = path.display().to_string();
    |source| CliError::File { path, source }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_key_is_made_once_for_its_user_alone_and_nothing_else_stays() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join(".ssh");
        let path = ensure(&folder).unwrap();
        let made = std::fs::read(&path).unwrap();
        assert_eq!(ensure(&folder).unwrap(), path);
        assert_eq!(std::fs::read(&path).unwrap(), made);
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&path), mode(&folder)), (0o600, 0o700));
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 2, "both halves and no more");
        let written = std::fs::read_to_string(path.with_extension("pub")).unwrap();
        assert_eq!(public(&path).unwrap(), written.trim());
        assert!(written.starts_with("ssh-ed25519 ") && written.ends_with(" spark\n"));
    }

    #[test]
    fn many_who_begin_at_once_end_with_one_key() {
        let folder = tempfile::tempdir().unwrap();
        let keys: Vec<String> = std::thread::scope(|scope| {
            let all: Vec<_> =
                (0..8).map(|_| scope.spawn(|| public(&ensure(folder.path()).unwrap()).unwrap())).collect();
            all.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
        assert_eq!(std::fs::read_to_string(folder.path().join("spark_ed25519.pub")).unwrap().trim(), keys[0]);
    }

    #[test]
    fn what_is_no_key_is_told_with_its_path() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE);
        assert!(public(&path).unwrap_err().to_string().contains(FILE));
        std::fs::write(&path, "no key").unwrap();
        assert!(public(&path).unwrap_err().to_string().contains(FILE));
    }
}
