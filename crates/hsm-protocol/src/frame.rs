//! Frames: `u32` big-endian length, then that many bytes of postcard.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Largest payload of a frame. A longer one closes the connection.
pub const MAX_FRAME: usize = 256 * 1024;

/// Most leaf hashes in one `Advance` or `Resync`; they then fit a frame with the rest.
pub const MAX_LEAF_HASHES: usize = 4096;

/// Encodes a message as a frame, length included.
///
/// # Errors
/// [`FrameError::TooLong`] if the message does not fit; retrying cannot help.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes =
        postcard::to_extend(message, vec![0_u8; 4]).map_err(|_| FrameError::Malformed)?;
    let payload = bytes.len().saturating_sub(4);
    if payload > MAX_FRAME {
        return Err(FrameError::TooLong { length: payload });
    }
    let length = u32::try_from(payload).map_err(|_| FrameError::TooLong { length: payload })?;
    if let Some(prefix) = bytes.first_chunk_mut::<4>() {
        *prefix = length.to_be_bytes();
    }
    Ok(bytes)
}

/// The payload's length, from a frame's first four bytes.
///
/// # Errors
/// [`FrameError::TooLong`] past [`MAX_FRAME`]: close the connection.
pub const fn payload_length(prefix: [u8; 4]) -> Result<usize, FrameError> {
    let length = u32::from_be_bytes(prefix) as usize;
    if length > MAX_FRAME {
        Err(FrameError::TooLong { length })
    } else {
        Ok(length)
    }
}

/// Decodes a payload: the whole of it, or nothing.
///
/// # Errors
/// [`FrameError::Malformed`] for anything that is not exactly one message: close the connection.
pub fn decode<T: DeserializeOwned>(payload: &[u8]) -> Result<T, FrameError> {
    if payload.len() > MAX_FRAME {
        return Err(FrameError::TooLong {
            length: payload.len(),
        });
    }
    match postcard::take_from_bytes(payload) {
        Ok((message, [])) => Ok(message),
        _ => Err(FrameError::Malformed),
    }
}

/// A frame that cannot be. Retrying cannot help; the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME`].
    #[error("a frame of {length} bytes (at most {MAX_FRAME})")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// Not one message of the kind expected.
    #[error("the frame is not a message of this protocol")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Request, RequestBody, Response, WorkerHello};
    use proptest::prelude::*;

    #[test]
    fn a_frame_is_its_length_and_its_message() {
        let request = Request {
            id: 7,
            deadline_ms: 100,
            body: RequestBody::Ping,
        };
        let bytes = encode(&request).unwrap();
        let (prefix, payload) = bytes.split_first_chunk::<4>().unwrap();
        assert_eq!(payload_length(*prefix), Ok(payload.len()));
        assert_eq!(decode::<Request>(payload), Ok(request));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut bytes = encode(&Request {
            id: 1,
            deadline_ms: 1,
            body: RequestBody::Ping,
        })
        .unwrap();
        bytes.push(0);
        assert_eq!(decode::<Request>(&bytes[4..]), Err(FrameError::Malformed));
    }

    #[test]
    fn a_long_frame_is_refused_before_it_is_read() {
        assert_eq!(payload_length([0, 4, 0, 0]), Ok(MAX_FRAME));
        assert_eq!(
            payload_length([0, 4, 0, 1]),
            Err(FrameError::TooLong {
                length: MAX_FRAME + 1
            })
        );
        assert_eq!(
            encode(&vec![0_u8; MAX_FRAME]),
            Err(FrameError::TooLong {
                length: MAX_FRAME + 3
            })
        );
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Response>(&bytes);
            let _ = decode::<WorkerHello>(&bytes);
        }
    }
}
