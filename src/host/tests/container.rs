//! Finding containers, reading their files and talking to them. Needs root.

#![allow(clippy::unwrap_used)]

mod common;

use std::fs;
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

use common::pod::{Cgroup, TestPod};
use sparks_host::container::{Container, ContainerError};

#[test]
fn the_init_process_is_found_by_the_container_id_until_it_ends() {
    let id = format!("{:064x}", std::process::id());
    let cgroup = Cgroup::new(&id);
    let mut pod = TestPod::start();
    assert!(matches!(Container::find(&id), Err(ContainerError::NotFound(_))));
    // unshare stays outside the PID namespace: it is in the container, and not its init.
    cgroup.add(pod.container.pid());
    let found = Container::find(&id).unwrap();
    assert_eq!((found.pid(), found.start_time()), (pod.container.pid(), pod.container.start_time()));
    assert!(found.is_alive());
    pod.stop();
    assert!(!found.is_alive());
    assert!(matches!(Container::find(&id), Err(ContainerError::NotFound(_))));
}

#[test]
fn files_of_the_pod_are_read_without_following_links() {
    let mut pod = TestPod::start();
    let read = |pod: &TestPod, path: &str| pod.container.read_file(path, 1 << 20);
    assert_eq!(
        read(&pod, "/etc/resolv.conf").unwrap().unwrap(),
        b"pod-resolv\n",
        "also where one is mounted"
    );
    assert_eq!(read(&pod, "/etc/none").unwrap(), None);
    pod.run("ln -s /resolv /etc/hosts");
    assert!(matches!(read(&pod, "/etc/hosts"), Err(ContainerError::Path { .. })));
}

#[test]
fn a_directory_of_the_pod_is_opened_for_a_copy() {
    let pod = TestPod::start();
    let directory = pod.container.open_dir("/var/run/secrets/kubernetes.io/serviceaccount").unwrap();
    let path = format!("/proc/self/fd/{}/token", std::os::fd::AsRawFd::as_raw_fd(&directory));
    assert_eq!(fs::read_to_string(path).unwrap(), "of-the-pod\n");
    assert!(pod.container.open_dir("/nowhere").is_err());
}

#[test]
fn the_id_map_of_the_pod_is_known() {
    let pod = TestPod::start();
    let map = pod.container.id_map().unwrap();
    assert_eq!((map.uid(common::pod::ID_BASE + 7), map.gid(common::pod::ID_BASE)), (7, 0));
}

fn listen(name: &str) -> UnixListener {
    UnixListener::bind_addr(&SocketAddr::from_abstract_name(name).unwrap()).unwrap()
}

#[test]
fn a_socket_of_the_init_process_is_connected() {
    let name = format!("sparks-test-own-{}", std::process::id());
    let listener = listen(&name);
    let ourselves = Container::of_process("self", std::process::id() as i32).unwrap();
    let mut stream = ourselves.connect_abstract(&name).unwrap();
    drop(listener.accept().unwrap());
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn a_socket_of_any_other_process_is_refused() {
    let pod = TestPod::start();
    let name = format!("sparks-test-other-{}", std::process::id());
    let refused = pod.container.connect_abstract(&name).unwrap_err();
    assert!(matches!(refused, ContainerError::System { .. }), "nobody listens: {refused}");
    // This process's thread in the pod's network namespace is not the pod's init.
    let namespace = pod.container.namespace("net").unwrap();
    let bind = name.clone();
    let enter = move || {
        let fd = std::os::fd::AsFd::as_fd(&namespace);
        rustix::thread::move_into_link_name_space(fd, None).unwrap();
        listen(&bind)
    };
    let _listener = std::thread::spawn(enter).join().unwrap();
    let refused = pod.container.connect_abstract(&name).unwrap_err();
    let found = std::process::id() as i32;
    assert!(matches!(refused, ContainerError::WrongPeer { found: pid, .. } if pid == found), "{refused}");
}
