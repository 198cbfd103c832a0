//! Frames: reading and writing, pure.

use bytes::Bytes;

/// Bytes of a frame before its payload.
pub(super) const HEAD: usize = 8;

/// Largest payload that is taken. Clients send what they read at once, some 32 KiB.
pub(super) const MAX_PAYLOAD: usize = 128 * 1024;

/// Version in control frames; 3.1 says 3 as well.
const VERSION: u16 = 3;
const CONTROL: u8 = 0x80;
const FIN: u8 = 0x01;

const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

/// Status of a reset: the stream was not to be.
pub(super) const REFUSED_STREAM: u32 = 3;

/// What goes over a connection. Blocks of headers are still compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// The sender opens a stream; with `fin` it will send nothing on it.
    Open { id: u32, fin: bool, headers: Bytes },
    /// The other side has taken a stream.
    Reply { id: u32, headers: Bytes },
    /// The sender ends a stream at once, both ways.
    Reset { id: u32, status: u32 },
    /// To be sent back as it is.
    Ping { id: u32 },
    /// The sender opens, or takes, no further stream.
    GoAway,
    /// Bytes of a stream; with `fin` they are the sender's last.
    Data { id: u32, fin: bool, bytes: Bytes },
    /// Settings, windows and headers that come later: they change nothing here.
    Other,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame of {0} bytes is larger than {MAX_PAYLOAD}")]
    TooLarge(usize),
    #[error("a control frame of version {0} instead of {VERSION}")]
    Version(u16),
    #[error("a frame of type {0} is too short")]
    TooShort(u16),
}

/// Size of the payload that follows these first bytes of a frame.
///
/// # Errors
/// When it is larger than any that is taken.
pub(super) fn payload_size(head: [u8; HEAD]) -> Result<usize, FrameError> {
    let size = u32::from_be_bytes([0, head[5], head[6], head[7]]) as usize;
    if size > MAX_PAYLOAD {
        return Err(FrameError::TooLarge(size));
    }
    Ok(size)
}

impl Frame {
    /// Reads a frame.
    ///
    /// # Errors
    /// [`FrameError`]; the connection can't be understood any further then.
    pub(super) fn read(head: [u8; HEAD], payload: &Bytes) -> Result<Self, FrameError> {
        let fin = head[4] & FIN != 0;
        if head[0] & CONTROL == 0 {
            return Ok(Self::Data {
                id: number([head[0], head[1], head[2], head[3]]),
                fin,
                bytes: payload.clone(),
            });
        }
        let version = u16::from_be_bytes([head[0] & !CONTROL, head[1]]);
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        let kind = u16::from_be_bytes([head[2], head[3]]);
        let word = |at: usize| match payload.get(at..at + 4) {
            Some(&[a, b, c, d]) => Ok([a, b, c, d]),
            _ => Err(FrameError::TooShort(kind)),
        };
        Ok(match kind {
            SYN_STREAM => {
                let id = number(word(0)?);
                // An associated stream, a priority and a slot follow, which are for servers that push.
                let headers = payload.get(10..).ok_or(FrameError::TooShort(kind))?;
                Self::Open {
                    id,
                    fin,
                    headers: payload.slice_ref(headers),
                }
            }
            SYN_REPLY => Self::Reply {
                id: number(word(0)?),
                headers: payload.slice(4..),
            },
            RST_STREAM => Self::Reset {
                id: number(word(0)?),
                status: u32::from_be_bytes(word(4)?),
            },
            PING => Self::Ping {
                id: u32::from_be_bytes(word(0)?),
            },
            GOAWAY => Self::GoAway,
            _ => Self::Other,
        })
    }

    /// Writes a frame. Payloads must fit: see [`MAX_PAYLOAD`].
    pub(super) fn write(&self) -> Vec<u8> {
        match self {
            Self::Open { id, fin, headers } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend_from_slice(&[0; 6]);
                payload.extend_from_slice(headers);
                control(SYN_STREAM, *fin, &payload)
            }
            Self::Reply { id, headers } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend_from_slice(headers);
                control(SYN_REPLY, false, &payload)
            }
            Self::Reset { id, status } => {
                let mut payload = id.to_be_bytes().to_vec();
                payload.extend_from_slice(&status.to_be_bytes());
                control(RST_STREAM, false, &payload)
            }
            Self::Ping { id } => control(PING, false, &id.to_be_bytes()),
            Self::GoAway => control(GOAWAY, false, &[0; 8]),
            Self::Data { id, fin, bytes } => {
                let mut frame = (id & 0x7fff_ffff).to_be_bytes().to_vec();
                finish(&mut frame, *fin, bytes);
                frame
            }
            Self::Other => Vec::new(),
        }
    }
}

/// A number of a stream: 31 bits.
fn number(bytes: [u8; 4]) -> u32 {
    u32::from_be_bytes(bytes) & 0x7fff_ffff
}

fn control(kind: u16, fin: bool, payload: &[u8]) -> Vec<u8> {
    let mut frame = (u16::from(CONTROL) << 8 | VERSION).to_be_bytes().to_vec();
    frame.extend_from_slice(&kind.to_be_bytes());
    finish(&mut frame, fin, payload);
    frame
}

fn finish(frame: &mut Vec<u8>, fin: bool, payload: &[u8]) {
    let size = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    let [_, high, middle, low] = size.to_be_bytes();
    frame.extend_from_slice(&[if fin { FIN } else { 0 }, high, middle, low]);
    frame.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read_back(written: &[u8]) -> Result<Frame, FrameError> {
        let head: [u8; HEAD] = written[..HEAD].try_into().unwrap();
        assert_eq!(payload_size(head), Ok(written.len() - HEAD));
        Frame::read(head, &Bytes::copy_from_slice(&written[HEAD..]))
    }

    fn frames() -> impl Strategy<Value = Frame> {
        let id = 0..0x8000_0000_u32;
        let bytes = proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from);
        prop_oneof![
            (id.clone(), any::<bool>(), bytes.clone()).prop_map(|(id, fin, headers)| Frame::Open { id, fin, headers }),
            (id.clone(), bytes.clone()).prop_map(|(id, headers)| Frame::Reply { id, headers }),
            (id.clone(), any::<u32>()).prop_map(|(id, status)| Frame::Reset { id, status }),
            any::<u32>().prop_map(|id| Frame::Ping { id }),
            Just(Frame::GoAway),
            (id, any::<bool>(), bytes).prop_map(|(id, fin, bytes)| Frame::Data { id, fin, bytes }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(frame in frames()) {
            prop_assert_eq!(read_back(&frame.write()), Ok(frame));
        }

        #[test]
        fn nothing_panics(head: [u8; HEAD], payload in proptest::collection::vec(any::<u8>(), 0..32)) {
            let _ = payload_size(head);
            let _ = Frame::read(head, &Bytes::from(payload));
        }
    }

    #[test]
    fn what_can_not_be_is_told() {
        let head = [0, 0, 0, 1, 0, 0xff, 0xff, 0xff];
        assert_eq!(payload_size(head), Err(FrameError::TooLarge(0x00ff_ffff)));
        let version = Frame::read([0x80, 2, 0, 1, 0, 0, 0, 0], &Bytes::new());
        assert_eq!(version, Err(FrameError::Version(2)));
        let short = Frame::read([0x80, 3, 0, 1, 0, 0, 0, 4], &Bytes::from_static(&[0, 0, 0, 1]));
        assert_eq!(short, Err(FrameError::TooShort(SYN_STREAM)));
        let window = Frame::read([0x80, 3, 0, 9, 0, 0, 0, 8], &Bytes::from_static(&[0; 8]));
        assert_eq!(window, Ok(Frame::Other));
    }
}
