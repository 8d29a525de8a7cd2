//! The recorder on the packets that the SSH server passes on.

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use jiff::Timestamp;
use sparks_api::Recording;

use crate::{
    recording::{self, Origin, Recorder},
    ssh::{
        Record, Recorded,
        relay::{Side, Tap},
    },
};

/// Makes the taps that record connections.
pub struct Taps(pub Recorder);

impl Record for Taps {
    fn tap(&self, connection: Recorded) -> BoxFuture<'_, Result<Box<dyn Tap>, String>> {
        let required = connection.recording == Recording::Required;
        let tap = recording::Tap::new(self.0.clone(), origin(connection), required);
        std::future::ready(Ok(Box::new(Attached(tap)) as Box<dyn Tap>)).boxed()
    }
}

fn origin(connection: Recorded) -> Origin {
    let Recorded { spark, user, who, client, .. } = connection;
    let metadata = &spark.metadata;
    Origin {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        spark: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
        user,
        key: who,
        client: client.to_string(),
        connection: format!("{:x}-{:x}", Timestamp::now().as_microsecond(), client.port()),
        tty: false,
    }
}

struct Attached(recording::Tap);

impl Tap for Attached {
    fn pass(&mut self, from: Side, packet: &Bytes) -> Result<(), String> {
        let from = match from {
            Side::Client => recording::Side::Client,
            Side::Guest => recording::Side::Guest,
        };
        self.0.pass(from, packet).map_err(|error| error.to_string())
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, ()> {
        self.0.finish().boxed()
    }
}
