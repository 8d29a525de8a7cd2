//! The containers that are, or wait to become, a Spark: what each stands in, and the open connection to its guest.
//!
//! All of it is found out when the container starts, so that none of it is on the way of a fork. What a guest says is
//! a tenant's word: it changes what its own Volume's status shows, and nothing else.

mod connection;
mod state;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sparks_api::NamespacedName;
use sparks_host::{Host, HostError, container::ContainerError, host::AttachedDisk};
use sparks_proto::{CodecError, Computer, ToGuest};
use tokio::{net::unix::OwnedWriteHalf, sync::Notify};

use state::State;
pub use state::{GuestView, Standing};

use crate::{metrics::Metrics, triggers::Triggers};

/// How long a guest may take to read a message.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// Between two looks at whether all containers were looked at.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Why a guest can't be told something.
#[derive(Debug, thiserror::Error)]
pub enum GuestError {
    /// No connection is open.
    #[error("the guest of container {0} is not connected; it is dialled again")]
    NotConnected(String),
    /// It doesn't read.
    #[error("the guest of container {0} does not take messages; it is dialled again")]
    Stuck(String),
    /// The connection broke, or the message is too long.
    #[error("the guest of container {container}: {source}")]
    Codec {
        /// The container.
        container: String,
        /// What went wrong.
        source: CodecError,
    },
}

/// One container.
pub struct Guest {
    /// Id of the container.
    pub container: String,
    /// Pod of the container.
    pub pod: NamespacedName,
    /// Held while its root is being swapped.
    pub attaching: tokio::sync::Mutex<()>,
    state: Mutex<State>,
    writer: tokio::sync::Mutex<Option<OwnedWriteHalf>>,
    /// Ends the connection.
    hang_up: Notify,
}

impl Guest {
    fn new(container: &str, pod: &NamespacedName) -> Self {
        Self {
            container: container.into(),
            pod: pod.clone(),
            attaching: tokio::sync::Mutex::default(),
            state: Mutex::default(),
            writer: tokio::sync::Mutex::default(),
            hang_up: Notify::new(),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of it now.
    pub fn view(&self) -> GuestView {
        self.state().view()
    }

    /// Notes what the container stands in from now on.
    pub fn stands_in(&self, standing: Standing) {
        self.state().standing = Some(standing);
    }

    /// A file that the pod brought along (`etc/hosts`, `etc/resolv.conf`).
    pub fn pod_file(&self, path: &str) -> Option<Vec<u8>> {
        self.state().files.iter().find(|(name, _)| *name == path).map(|(_, contents)| contents.clone())
    }

    /// Makes the guest this computer.
    pub async fn run(&self, computer: &Computer) -> Result<(), GuestError> {
        // Noted before it is sent, because the answer may be here before this task goes on.
        self.state().told_to_run(computer.clone());
        self.send(&ToGuest::Run(computer.clone())).await
    }

    /// Has the guest end everything that uses its root.
    pub async fn quiesce(&self) -> Result<(), GuestError> {
        self.state().told_to_quiesce();
        self.send(&ToGuest::Quiesce).await
    }

    async fn send(&self, message: &ToGuest) -> Result<(), GuestError> {
        let mut writer = self.writer.lock().await;
        let Some(stream) = writer.as_mut() else {
            return Err(GuestError::NotConnected(self.container.clone()));
        };
        let error = match tokio::time::timeout(SEND_TIMEOUT, sparks_proto::write(stream, message)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(source)) => GuestError::Codec { container: self.container.clone(), source },
            Err(_) => GuestError::Stuck(self.container.clone()),
        };
        // Half a message may have been written: only a new connection helps.
        *writer = None;
        self.hang_up.notify_one();
        Err(error)
    }
}

/// All containers.
pub struct Guests {
    all: Mutex<HashMap<String, Arc<Guest>>>,
    host: Arc<dyn Host>,
    triggers: Triggers,
    metrics: Metrics,
}

impl Guests {
    /// None yet.
    pub fn new(host: Arc<dyn Host>, triggers: Triggers, metrics: Metrics) -> Self {
        Self { all: Mutex::default(), host, triggers, metrics }
    }

    fn all(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Guest>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container of this id.
    pub fn get(&self, container: &str) -> Option<Arc<Guest>> {
        self.all().get(container).cloned()
    }

    /// The containers that stand in a disk of this Volume.
    pub fn standing_in(&self, volume_uid: &str) -> Vec<Arc<Guest>> {
        self.all().values().filter(|guest| guest.state().stands_in(volume_uid)).cloned().collect()
    }

    /// How many containers stand in a Volume.
    pub fn attached(&self) -> usize {
        self.all()
            .values()
            .filter(|guest| matches!(guest.state().standing, Some(Standing::Volume(_))))
            .count()
    }

    /// Gets to know a running container and keeps a connection to its guest open until [`Self::forget`].
    pub fn meet(self: &Arc<Self>, container: &str, pod: &NamespacedName) {
        let guest = {
            let mut all = self.all();
            if all.contains_key(container) {
                return;
            }
            let guest = Arc::new(Guest::new(container, pod));
            all.insert(container.into(), guest.clone());
            guest
        };
        let guests = self.clone();
        tokio::spawn(async move { guests.keep_connected(guest).await });
    }

    /// The container is gone.
    pub fn forget(&self, container: &str) {
        if let Some(guest) = self.all().remove(container) {
            guest.state().forgotten = true;
            guest.hang_up.notify_one();
        }
    }

    /// Completes when all containers that are known now were looked at: only then it is known which Volumes are in use.
    pub async fn looked_at(&self) {
        while self.all().values().any(|guest| !guest.state().looked_at) {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }

    /// Asks the machine what the container stands in, and what its pod brought along.
    async fn discover(&self, guest: &Guest) -> Result<(), HostError> {
        if guest.state().standing.is_some() {
            return Ok(());
        }
        let (host, container) = (self.host.clone(), guest.container.clone());
        let found = tokio::task::spawn_blocking(move || look(&*host, &container)).await;
        let found = found.unwrap_or_else(|_| Err(gone(&guest.container)));
        let mut state = guest.state();
        state.looked_at = true;
        let (disk, files) = found?;
        state.standing.get_or_insert(disk.map_or(Standing::Image, |disk| Standing::Volume(disk.volume_uid)));
        state.files = files;
        Ok(())
    }
}

type Look = (Option<AttachedDisk>, Vec<(&'static str, Vec<u8>)>);

fn look(host: &dyn Host, container: &str) -> Result<Look, HostError> {
    let disk = host.attached_disk(container)?;
    let mut files = Vec::new();
    // In a Spark the former are links to the latter. Its user may have put anything there; then the pod's own is not to be had.
    for (path, attached) in
        [("/etc/hosts", "/etc/sparks/hosts"), ("/etc/resolv.conf", "/etc/sparks/resolv.conf")]
    {
        let found = [attached, path].into_iter().find_map(|path| host.read_file(container, path).ok()?);
        files.extend(found.map(|contents| (path, contents)));
    }
    Ok((disk, files))
}

fn gone(container: &str) -> HostError {
    HostError::Container(ContainerError::Gone(container.into()))
}
