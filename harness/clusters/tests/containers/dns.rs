//! A name server that knows one name, and remembers what it was asked.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio_util::task::AbortOnDropHandle;

const TYPE_A: u16 = 1;

pub(crate) struct NameServer {
    asked: Arc<Mutex<Vec<String>>>,
    _serving: AbortOnDropHandle<()>,
}

impl NameServer {
    /// Serves `name` on port 53 of `address`.
    pub(crate) async fn start(address: Ipv4Addr, name: &str, is: Ipv4Addr) -> std::io::Result<Self> {
        let socket = UdpSocket::bind((address, 53)).await?;
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (log, name) = (Arc::clone(&asked), name.to_owned());
        let serving = tokio::spawn(async move {
            let mut packet = [0; 1500];
            while let Ok((length, peer)) = socket.recv_from(&mut packet).await {
                if let Some((question, answer)) = answer(&packet[..length], &name, is) {
                    log.lock().unwrap().push(question);
                    let _ = socket.send_to(&answer, peer).await;
                }
            }
        });
        Ok(Self {
            asked,
            _serving: AbortOnDropHandle::new(serving),
        })
    }

    /// The names that were asked for since the last call, each once.
    pub(crate) fn asked(&self) -> Vec<String> {
        let mut asked = std::mem::take(&mut *self.asked.lock().unwrap());
        // Both families are asked for, at the same time or one after the other.
        asked.dedup();
        asked
    }
}

/// The name asked for, and the answer (RFC 1035 §4).
fn answer(query: &[u8], name: &str, is: Ipv4Addr) -> Option<(String, Vec<u8>)> {
    let mut labels = Vec::new();
    let mut at = 12;
    loop {
        let length = usize::from(*query.get(at)?);
        at += 1;
        if length == 0 {
            break;
        }
        labels.push(String::from_utf8(query.get(at..at + length)?.to_vec()).ok()?);
        at += length;
    }
    let kind = u16::from_be_bytes(query.get(at..at + 2)?.try_into().ok()?);
    let asked = labels.join(".").to_lowercase();
    let known = asked == name;
    let found = known && kind == TYPE_A;
    let mut answer = query[..2].to_vec();
    // A recursive answer; 3: no such name.
    answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
    answer.extend([0, 1, 0, u8::from(found), 0, 0, 0, 0]);
    answer.extend(query.get(12..at + 4)?);
    if found {
        // The name in the question, A, IN, 5 s, four bytes.
        answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
        answer.extend(is.octets());
    }
    Some((asked, answer))
}
