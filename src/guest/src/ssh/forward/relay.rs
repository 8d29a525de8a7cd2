//! Between a socket and a channel.

use std::io::ErrorKind;

use sparks_ssh::mux::{Channel, ChannelReader, ChannelWriter, Control, PacketBuf};
use tokio::task::coop::consume_budget;

use super::socket::Socket;

/// First size of a read, enough for what people type.
const SMALL: usize = 4 << 10;

/// Size of the reads from a socket that filled the last one.
const LARGE: usize = 32 << 10;

/// Copies in both directions until both have ended. Either may end alone: an end is passed on as one.
///
/// Nothing is read from the socket that the channel has no room for, and nothing from the channel that the socket
/// doesn't take; so that one that is stalled holds no more than the channel's window, and holds up nobody else.
pub async fn relay(socket: Socket, channel: Channel) {
    // Requests on a forwarded channel mean nothing, and neither does a second stream.
    let Channel { reader, writer, control, .. } = channel;
    tokio::join!(to_socket(&socket, reader, &control), to_channel(&socket, writer, &control));
    control.close();
}

async fn to_socket(socket: &Socket, mut reader: ChannelReader, control: &Control) {
    while let Some(data) = reader.next().await {
        if socket.write_all(&data).await.is_err() {
            // What still comes is thrown away; a client that knows of this request saves itself the sending.
            let _ = control.eow().await;
            return;
        }
        consume_budget().await;
    }
    socket.end();
}

async fn to_channel(socket: &Socket, writer: ChannelWriter, control: &Control) {
    tokio::select! {
        () = copy(socket, writer) => {}
        // Nobody wants it any more.
        () = control.closed() => {}
    }
}

/// Ends with the socket or with the channel. An error of the socket is an end too: SSH has no other word for it.
async fn copy(socket: &Socket, mut writer: ChannelWriter) {
    let mut size = SMALL;
    while let Ok(room) = writer.room().await {
        let mut packet = PacketBuf::with_capacity(room.min(size));
        match socket.try_read(&mut packet.spare()) {
            Ok(0) => return,
            Ok(read) => {
                size = if read == size { LARGE } else { SMALL };
                if writer.send_all(packet).await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                // An idle connection holds no buffer.
                drop(packet);
                if socket.readable().await.is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
        consume_budget().await;
    }
}
