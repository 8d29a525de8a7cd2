//! The account that somebody has proven to hold a key for.

use crate::users::{self, User, UserError};

/// Why nobody logs in as that user, as the client is told.
#[derive(Debug, thiserror::Error)]
pub enum Closed {
    /// Not in the database.
    #[error("there is no user {0:?} in this Spark; useradd or adduser makes one")]
    Unknown(String),
    /// A database can't be read.
    #[error(transparent)]
    Database(UserError),
}

/// The user of that name, if somebody may log in as it.
///
/// # Errors
/// [`Closed`].
pub fn open(name: &str) -> Result<User, Closed> {
    users::by_name(name).map_err(|error| match error {
        UserError::Unknown(name) => Closed::Unknown(name),
        other => Closed::Database(other),
    })
}
