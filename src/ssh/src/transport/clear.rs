use russh::Disconnect;

use super::{ID, Reason};

const MSG_DISCONNECT: u8 = 1;
const BLOCK: usize = 8;
const LEAST_PADDING: usize = 4;

/// All that a server says which turns its client away at once: its identification, and a DISCONNECT in the clear, as all packets are
/// before keys are exchanged (RFC 4253, sections 6 and 11.1).
#[must_use]
pub fn turned_away(reason: Reason, sentence: &str) -> Vec<u8> {
    [ID.as_bytes(), b"\r\n", &disconnect(reason, sentence)].concat()
}

fn disconnect(reason: Reason, sentence: &str) -> Vec<u8> {
    let mut payload = vec![MSG_DISCONNECT];
    payload.extend((Disconnect::from(reason) as u32).to_be_bytes());
    for text in [sentence, ""] {
        payload.extend((text.len() as u32).to_be_bytes());
        payload.extend(text.as_bytes());
    }
    let unpadded = 5 + payload.len() + LEAST_PADDING;
    let padding = LEAST_PADDING + unpadded.next_multiple_of(BLOCK) - unpadded;
    let mut packet = ((1 + payload.len() + padding) as u32).to_be_bytes().to_vec();
    packet.push(padding as u8);
    packet.extend(payload);
    packet.resize(packet.len() + padding, 0);
    packet
}
