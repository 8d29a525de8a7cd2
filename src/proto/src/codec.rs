//! Length-prefixed JSON over any byte stream.

use serde::{Serialize, de::DeserializeOwned};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::MAX_MESSAGE;

/// Why a message could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// The other side is gone or the stream failed.
    #[error("the control connection failed: {0}")]
    Io(#[from] std::io::Error),
    /// The other side announced, or this side built, a message above [`MAX_MESSAGE`].
    #[error("a control message of {0} bytes is longer than {MAX_MESSAGE}")]
    TooLong(usize),
    /// The bytes are no message of this protocol.
    #[error("a control message could not be understood: {0}")]
    Json(#[from] serde_json::Error),
}

/// Reads one message.
///
/// # Errors
/// [`CodecError`]; the stream is unusable afterwards.
pub async fn read<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> Result<T, CodecError> {
    let length = stream.read_u32().await? as usize;
    if length > MAX_MESSAGE {
        return Err(CodecError::TooLong(length));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(serde_json::from_slice(&bytes)?)
}

/// Writes one message in a single write.
///
/// # Errors
/// [`CodecError`]; after [`CodecError::TooLong`] nothing was written.
pub async fn write<T: Serialize>(
    stream: &mut (impl AsyncWrite + Unpin),
    message: &T,
) -> Result<(), CodecError> {
    let body = serde_json::to_vec(message)?;
    let length = u32::try_from(body.len()).ok().filter(|_| body.len() <= MAX_MESSAGE);
    let length = length.ok_or(CodecError::TooLong(body.len()))?;
    let mut frame = Vec::with_capacity(4 + body.len());
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::{Computer, FromGuest, ToGuest};

    #[tokio::test]
    async fn a_message_survives_the_wire() {
        let (mut a, mut b) = tokio::io::duplex(64);
        let sent = ToGuest::Run(Computer { hostname: "api".into(), service: None, ssh: None });
        let (written, got) = tokio::join!(write(&mut a, &sent), read::<ToGuest>(&mut b));
        written.unwrap();
        assert_eq!(got.unwrap(), sent);
    }

    #[tokio::test]
    async fn an_announced_length_above_the_limit_is_refused_before_it_is_allocated() {
        let mut bytes: &[u8] = &u32::MAX.to_be_bytes();
        assert!(matches!(read::<FromGuest>(&mut bytes).await, Err(CodecError::TooLong(_))));
    }

    #[tokio::test]
    async fn garbage_is_refused() {
        let mut bytes: &[u8] = b"\0\0\0\x02{}";
        assert!(matches!(read::<FromGuest>(&mut bytes).await, Err(CodecError::Json(_))));
    }
}
