use bytes::Bytes;

use super::*;
use crate::random::Random;

fn b(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

/// `bytes` with every `{text}` as a string of the protocol.
fn packet(number: u8, parts: &[&[u8]]) -> Bytes {
    let mut writer = Writer::new();
    writer.u8(number);
    for part in parts {
        writer.raw(part);
    }
    writer.finish()
}

fn string(text: &str) -> Vec<u8> {
    let mut bytes = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

fn word(number: u32) -> [u8; 4] {
    number.to_be_bytes()
}

/// The layouts of RFC 4254 and OpenSSH's PROTOCOL, spelled out.
#[test]
fn messages_have_the_layout_of_the_documents() {
    let size = [word(80), word(24), word(640), word(480)].concat();
    let modes = [&word(11)[..], &[53, 0, 0, 0, 1, 42, 0, 0, 0, 1, 0]].concat();
    let window = WindowSize { columns: 80, rows: 24, width: 640, height: 480 };
    let table = [
        (
            packet(98, &[&word(3), &string("pty-req"), &[1], &string("xterm"), &size, &modes]),
            Message::Request {
                recipient: 3,
                want_reply: true,
                kind: RequestKind::Pty(Pty { term: b("xterm"), size: window, modes: vec![(53, 1), (42, 1)] }),
            },
        ),
        (
            packet(98, &[&word(0), &string("window-change"), &[0], &size]),
            Message::Request { recipient: 0, want_reply: false, kind: RequestKind::WindowChange(window) },
        ),
        (
            packet(
                98,
                &[&word(1), &string("exit-signal"), &[0], &string("TERM"), &[1], &string("m"), &string("")],
            ),
            Message::Request {
                recipient: 1,
                want_reply: false,
                kind: RequestKind::ExitSignal {
                    name: b("TERM"),
                    core_dumped: true,
                    message: b("m"),
                    language: b(""),
                },
            },
        ),
        (
            packet(98, &[&word(1), &string("eow@openssh.com"), &[0]]),
            Message::Request { recipient: 1, want_reply: false, kind: RequestKind::Eow },
        ),
        (
            packet(90, &[&string("session"), &word(7), &word(2 << 20), &word(32768)]),
            Message::Open { sender: 7, window: 2 << 20, max_packet: 32768, kind: ChannelKind::Session },
        ),
        (
            packet(
                90,
                &[
                    &string("direct-tcpip"),
                    &[word(7), word(1), word(2)].concat(),
                    &string("host"),
                    &word(8080),
                    &string("::1"),
                    &word(1234),
                ],
            ),
            Message::Open {
                sender: 7,
                window: 1,
                max_packet: 2,
                kind: ChannelKind::DirectTcpip {
                    host: b("host"),
                    port: 8080,
                    originator: b("::1"),
                    originator_port: 1234,
                },
            },
        ),
        (
            packet(
                90,
                &[
                    &string("direct-streamlocal@openssh.com"),
                    &[word(7), word(1), word(2)].concat(),
                    &string("/a"),
                    &string(""),
                    &word(0),
                ],
            ),
            Message::Open {
                sender: 7,
                window: 1,
                max_packet: 2,
                kind: ChannelKind::DirectStreamlocal { path: b("/a") },
            },
        ),
        (
            packet(80, &[&string("tcpip-forward"), &[1], &string("localhost"), &word(0)]),
            Message::GlobalRequest {
                want_reply: true,
                kind: GlobalKind::TcpipForward { address: b("localhost"), port: 0 },
            },
        ),
        (
            packet(92, &[&word(1), &word(2), &string("no"), &string("en")]),
            Message::OpenFailure {
                recipient: 1,
                reason: OpenReason::ConnectFailed,
                description: b("no"),
                language: b("en"),
            },
        ),
        (packet(93, &[&word(5), &word(9)]), Message::WindowAdjust { recipient: 5, bytes: 9 }),
        (packet(94, &[&word(5), &string("hi")]), Message::Data { recipient: 5, data: b("hi") }),
        (
            packet(95, &[&word(5), &word(1), &string("hi")]),
            Message::ExtendedData { recipient: 5, code: 1, data: b("hi") },
        ),
        (packet(96, &[&word(5)]), Message::Eof { recipient: 5 }),
        (packet(97, &[&word(5)]), Message::Close { recipient: 5 }),
        (packet(99, &[&word(5)]), Message::Success { recipient: 5 }),
        (packet(100, &[&word(5)]), Message::Failure { recipient: 5 }),
        (packet(192, &[b"?"]), Message::Unknown(packet(192, &[b"?"]))),
    ];
    for (bytes, message) in table {
        assert_eq!(Message::parse(bytes.clone()), Ok(message.clone()));
        assert_eq!(message.encode(), bytes, "{message:?}");
    }
}

#[test]
fn a_known_name_with_another_payload_is_unknown() {
    for (name, payload) in
        [("exec", &b"\0\0\0\x05ls"[..]), ("shell", b"x"), ("signal", b""), ("nobody@knows", b"x")]
    {
        let bytes = packet(98, &[&word(0), &string(name), &[1], payload]);
        let kind = RequestKind::Unknown { name: b(name), payload: payload.into() };
        assert_eq!(Message::parse(bytes), Ok(Message::Request { recipient: 0, want_reply: true, kind }));
    }
}

#[test]
fn modes_end_at_the_first_that_is_not_known() {
    let mode = |opcode: u8| [&[opcode][..], &word(7)].concat();
    let table = [
        ([mode(1), mode(160), mode(2)].concat(), vec![(1, 7)]),
        ([mode(1), vec![0], mode(2)].concat(), vec![(1, 7)]),
        ([mode(1), vec![2, 0, 0]].concat(), vec![(1, 7)]),
        (vec![], vec![]),
    ];
    for (encoded, modes) in table {
        let length = word(u32::try_from(encoded.len()).unwrap());
        let parts: [&[u8]; 7] =
            [&word(0), &string("pty-req"), &[0], &string("t"), &[0; 16], &length, &encoded];
        let Ok(Message::Request { kind: RequestKind::Pty(pty), .. }) = Message::parse(packet(98, &parts))
        else {
            panic!("not a pty-req");
        };
        assert_eq!(pty.modes, modes);
    }
}

#[test]
fn an_open_failure_may_end_after_its_reason() {
    let message = Message::parse(packet(92, &[&word(1), &word(1)]));
    assert!(matches!(
        message,
        Ok(Message::OpenFailure { reason: OpenReason::AdministrativelyProhibited, .. })
    ));
}

#[test]
fn what_is_written_is_read_again() {
    let mut random = Random::new(1);
    for _ in 0..20_000 {
        let message = arbitrary::message(&mut random);
        assert_eq!(Message::parse(message.encode()), Ok(message));
    }
}

#[test]
fn no_packet_makes_the_parser_panic_or_grow_much() {
    let mut random = Random::new(2);
    for _ in 0..20_000 {
        let mut bytes = arbitrary::message(&mut random).encode().to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len());
            bytes[at] = random.next() as u8;
        }
        bytes.truncate(random.below(bytes.len() + 1));
        if let Ok(message) = Message::parse(bytes.into()) {
            // Whatever was understood is said again in a form that means the same.
            assert_eq!(Message::parse(message.encode()), Ok(message));
        }
    }
    for length in 0..200 {
        let garbage: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        for number in 0..=255 {
            let _ = Message::parse(packet(number, &[&garbage]));
        }
    }
}

#[test]
fn strings_are_cut_out_without_reading_over_the_end() {
    for bytes in [&b""[..], b"\0\0\0", b"\0\0\0\x01", b"\xff\xff\xff\xff", b"\xff\xff\xff\xffabc"] {
        assert!(Reader::new(bytes.into()).string().is_err());
    }
    let mut reader = Reader::new(b("\0\0\0\x02abcd"));
    assert_eq!(reader.string(), Ok(b("ab")));
    assert!(!reader.is_empty());
    assert_eq!(reader.rest(), b("cd"));
}

mod arbitrary {
    use super::*;

    fn bytes(random: &mut Random) -> Bytes {
        let length = random.below(20);
        (0..length).map(|_| random.next() as u8).collect()
    }

    fn word(random: &mut Random) -> u32 {
        random.next() as u32
    }

    fn flag(random: &mut Random) -> bool {
        random.below(2) == 1
    }

    fn channel(r: &mut Random) -> ChannelKind {
        let (name, number, port) = (bytes(r), word(r), word(r));
        match r.below(8) {
            0 => ChannelKind::Session,
            1 => ChannelKind::DirectTcpip {
                host: name,
                port: number,
                originator: bytes(r),
                originator_port: port,
            },
            2 => ChannelKind::DirectStreamlocal { path: name },
            3 => ChannelKind::ForwardedTcpip {
                address: name,
                port: number,
                originator: bytes(r),
                originator_port: port,
            },
            4 => ChannelKind::ForwardedStreamlocal { path: name },
            5 => ChannelKind::AuthAgent,
            6 => ChannelKind::X11 { originator: name, originator_port: port },
            _ => ChannelKind::Unknown { name, payload: bytes(r) },
        }
    }

    fn global(r: &mut Random) -> GlobalKind {
        let (name, port) = (bytes(r), word(r));
        let keys = (0..r.below(4)).map(|_| bytes(r)).collect();
        match r.below(9) {
            0 => GlobalKind::TcpipForward { address: name, port },
            1 => GlobalKind::CancelTcpipForward { address: name, port },
            2 => GlobalKind::StreamlocalForward { path: name },
            3 => GlobalKind::CancelStreamlocalForward { path: name },
            4 => GlobalKind::NoMoreSessions,
            5 => GlobalKind::HostKeys { keys },
            6 => GlobalKind::HostKeysProve { keys },
            7 => GlobalKind::Keepalive,
            _ => GlobalKind::Unknown { name, payload: bytes(r) },
        }
    }

    fn request(r: &mut Random) -> RequestKind {
        let (name, value, number, flag) = (bytes(r), bytes(r), word(r), flag(r));
        let size = WindowSize { columns: word(r), rows: word(r), width: word(r), height: word(r) };
        let modes = (0..r.below(5)).map(|_| (1 + r.below(159) as u8, word(r))).collect();
        match r.below(16) {
            0 => RequestKind::Pty(Pty { term: name, size, modes }),
            1 => RequestKind::X11 { single_connection: flag, protocol: name, cookie: value, screen: number },
            2 => RequestKind::AuthAgent,
            3 => RequestKind::Env { name, value },
            4 => RequestKind::Shell,
            5 => RequestKind::Exec { command: name },
            6 => RequestKind::Subsystem { name },
            7 => RequestKind::WindowChange(size),
            8 => RequestKind::XonXoff { client_can_do: flag },
            9 => RequestKind::Signal { name },
            10 => RequestKind::Break { milliseconds: number },
            11 => RequestKind::ExitStatus { status: number },
            12 => RequestKind::ExitSignal { name, core_dumped: flag, message: value, language: bytes(r) },
            13 => RequestKind::Eow,
            14 => RequestKind::Keepalive,
            _ => RequestKind::Unknown { name, payload: value },
        }
    }

    pub(super) fn message(r: &mut Random) -> Message {
        let (recipient, sender, window, max_packet) = (word(r), word(r), word(r), word(r));
        let (payload, want_reply) = (bytes(r), flag(r));
        match r.below(15) {
            0 => Message::GlobalRequest { want_reply, kind: global(r) },
            1 => Message::RequestSuccess { payload },
            2 => Message::RequestFailure,
            3 => Message::Open { sender, window, max_packet, kind: channel(r) },
            4 => Message::OpenConfirmation { recipient, sender, window, max_packet, payload },
            5 => Message::OpenFailure {
                recipient,
                reason: (r.below(6) as u32).into(),
                description: payload,
                language: bytes(r),
            },
            6 => Message::WindowAdjust { recipient, bytes: window },
            7 => Message::Data { recipient, data: payload },
            8 => Message::ExtendedData { recipient, code: sender, data: payload },
            9 => Message::Eof { recipient },
            10 => Message::Close { recipient },
            11 => Message::Request { recipient, want_reply, kind: request(r) },
            12 => Message::Success { recipient },
            13 => Message::Failure { recipient },
            _ => Message::Unknown(packet(101 + r.below(100) as u8, &[&payload])),
        }
    }
}
