//! Agent forwarding: a socket whose connections go to the agent of the client.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use sparks_ssh::wire::ChannelKind;

use super::forward::{Accepting, Listener, SocketFile, bind_unix};
use super::login::Login;

/// Where the directory of the socket is made, as by sshd.
const TEMPLATE: &str = "/tmp/ssh-XXXXXXXXXX";

/// The agent of a connection; its socket goes when this does.
#[derive(Debug)]
pub struct Agent {
    // In this order: nothing is accepted any more, the file goes, then its directory.
    _accepting: Accepting,
    file: SocketFile,
    _directory: PrivateDirectory,
}

impl Agent {
    /// Begins to listen.
    ///
    /// # Errors
    /// The kernel's, of making the directory or the socket.
    pub fn listen(login: &Rc<Login>) -> io::Result<Self> {
        let directory = PrivateDirectory::new(TEMPLATE)?;
        let (file, listener) = bind_unix(&directory.0.join(format!("agent.{}", std::process::id())))?;
        let accepting =
            Accepting::start(Listener::Unix(listener), login.opener.clone(), |_| ChannelKind::AuthAgent);
        Ok(Self { _accepting: accepting, file, _directory: directory })
    }

    /// For `SSH_AUTH_SOCK`.
    pub fn socket(&self) -> &Path {
        self.file.path()
    }
}

/// A directory that only its user can enter; removed, if it is empty, when this is dropped.
#[derive(Debug)]
struct PrivateDirectory(PathBuf);

impl PrivateDirectory {
    fn new(template: &str) -> io::Result<Self> {
        let template = CString::new(template)?.into_raw();
        // SAFETY: the pointer is a C string that mkdtemp(3) may write to, in place; it is given back right below.
        let made = unsafe { libc::mkdtemp(template) };
        let error = io::Error::last_os_error();
        // SAFETY: it came from `into_raw`, and its length is unchanged.
        let path = unsafe { CString::from_raw(template) };
        if made.is_null() {
            return Err(error);
        }
        Ok(Self(PathBuf::from(std::ffi::OsString::from_vec(path.into_bytes()))))
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_directory_is_the_users_alone_and_goes_again() {
        let scratch = tempfile::tempdir().unwrap();
        let template = scratch.path().join("a-XXXXXX");
        let template = std::str::from_utf8(template.as_os_str().as_bytes()).unwrap();
        let (one, other) =
            (PrivateDirectory::new(template).unwrap(), PrivateDirectory::new(template).unwrap());
        assert_ne!(one.0, other.0);
        assert_eq!(std::fs::metadata(&one.0).unwrap().permissions().mode() & 0o777, 0o700);
        let path = one.0.clone();
        drop(one);
        assert!(!path.exists());
    }
}
