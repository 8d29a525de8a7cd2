//! What an answer of the API server means.

use sparks_api::Reason;
use sparks_plan::progress::Blocked;

/// An object with this name exists already.
pub fn already_exists(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.reason == "AlreadyExists")
}

/// Somebody wrote the object since it was read.
pub fn conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}

/// The object is gone.
pub fn not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}

/// A refusal that only the user or the administrator can change: a quota, a policy, an admission webhook.
pub fn refused(error: &kube::Error) -> Option<Blocked> {
    match error {
        kube::Error::Api(status) if matches!(status.code, 400 | 403 | 413 | 422) => {
            Some(Blocked::new(Reason::ApiRefused, status.message.clone()))
        }
        _ => None,
    }
}

/// `Ok` when the object is gone already.
pub fn ignore_not_found<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !not_found(&error) => Err(error),
        _ => Ok(()),
    }
}

/// `Ok` when the object is there already.
pub fn ignore_exists<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Err(error) if !already_exists(&error) => Err(error),
        _ => Ok(()),
    }
}
