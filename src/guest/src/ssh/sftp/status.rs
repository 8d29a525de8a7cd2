//! What a request that failed is answered with.

use rustix::io::Errno;

use super::packet::Malformed;

/// The status codes of the protocol (draft-ietf-secsh-filexfer-02, section 7) that are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Status {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Status {
    /// OpenSSH's words for it.
    pub fn text(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

impl From<Errno> for Status {
    /// The mapping of OpenSSH's sftp-server: clients know what to make of it.
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::NOENT | Errno::NOTDIR | Errno::BADF | Errno::LOOP => Self::NoSuchFile,
            Errno::PERM | Errno::ACCESS | Errno::FAULT => Self::PermissionDenied,
            Errno::NAMETOOLONG | Errno::INVAL => Self::BadMessage,
            Errno::NOSYS => Self::Unsupported,
            _ => Self::Failure,
        }
    }
}

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// As the protocol has it.
    #[error("{}", .0.text())]
    Status(Status),
    /// The kernel said no.
    #[error("{}", explain(*.0))]
    Kernel(#[from] Errno),
    /// The packet says less than its kind has to.
    #[error("Bad message")]
    Malformed(#[from] Malformed),
    /// `~user/…` of nobody.
    #[error("no such user")]
    NoSuchUser,
}

impl Refusal {
    pub fn status(&self) -> Status {
        match self {
            Self::Status(status) => *status,
            Self::Kernel(errno) => (*errno).into(),
            Self::Malformed(_) => Status::BadMessage,
            Self::NoSuchUser => Status::NoSuchFile,
        }
    }
}

/// "Failure" alone would hide a full disk from the clients that show the text.
fn explain(errno: Errno) -> String {
    match Status::from(errno) {
        Status::Failure => {
            let words = std::io::Error::from(errno).to_string();
            let words = words.split(" (os error").next().unwrap_or_default();
            format!("Failure: {words}")
        }
        status => status.text().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_get_the_code_that_openssh_gives_them() {
        for (errno, status) in [
            (Errno::NOENT, Status::NoSuchFile),
            (Errno::NOTDIR, Status::NoSuchFile),
            (Errno::LOOP, Status::NoSuchFile),
            (Errno::ACCESS, Status::PermissionDenied),
            (Errno::PERM, Status::PermissionDenied),
            (Errno::NAMETOOLONG, Status::BadMessage),
            (Errno::EXIST, Status::Failure),
            (Errno::NOTEMPTY, Status::Failure),
            (Errno::NOSPC, Status::Failure),
        ] {
            assert_eq!(Refusal::from(errno).status(), status, "{errno}");
        }
    }

    #[test]
    fn a_failure_says_which_one() {
        assert_eq!(Refusal::from(Errno::NOSPC).to_string(), "Failure: No space left on device");
        assert_eq!(Refusal::from(Errno::NOENT).to_string(), "No such file");
    }
}
