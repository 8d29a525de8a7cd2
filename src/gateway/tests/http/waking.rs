//! The first request to a Spark that sleeps.

use http::StatusCode;
use tokio::net::TcpListener;

use super::{
    client::{ask, get},
    service::{Service, answer, read_head},
    world::{State, World},
};

#[tokio::test]
async fn requests_that_come_together_wait_for_one_waking_and_are_all_answered() {
    let service = Service::echo().await;
    let world = World::new().await;
    world.sparks.put("api", true, service.port, State::Asleep);
    let asked = futures::future::join_all((0..50).map(|_| ask(&world, get("api", "/", &[]))));
    let wakes = async {
        while world.sparks.waits() < 50 {
            tokio::task::yield_now().await;
        }
        assert_eq!(service.connections(), 0);
        world.sparks.set("api", State::Up);
    };
    let (answers, ()) = tokio::join!(asked, wakes);
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert_eq!((world.sparks.waits(), world.sparks.active()), (50, 50));
}

#[tokio::test]
async fn a_service_that_is_ready_before_it_listens_is_waited_for() {
    // The port is taken and nobody listens yet, as with a service without readinessPath that has just been started.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    let world = World::new().await;
    world.sparks.put("api", true, port, State::Asleep);
    let asked = ask(&world, get("api", "/", &[]));
    let starts = async {
        while world.sparks.waits() == 0 {
            tokio::task::yield_now().await;
        }
        world.sparks.set("api", State::Up);
        // Recorded after the waking, and before the first attempt to connect.
        while world.sparks.active() == 0 {
            tokio::task::yield_now().await;
        }
        let listener: TcpListener = socket.listen(16).unwrap();
        Service::on(listener, |mut stream, _| {
            Box::pin(async move {
                read_head(&mut stream).await.unwrap();
                answer(&mut stream, "up").await;
            })
        })
    };
    let (answer, _service) = tokio::join!(asked, starts);
    assert_eq!((answer.status, answer.body.as_str()), (StatusCode::OK, "up"));
}

#[tokio::test]
async fn a_stranger_wakes_nothing() {
    let world = World::new().await;
    world.sparks.put("api", false, 1, State::Asleep);
    assert_eq!(ask(&world, get("api", "/", &[])).await.status, 401);
    assert_eq!(ask(&world, get("api", "/", &[("sparks-token", "x")])).await.status, 401);
    assert_eq!((world.sparks.waits(), world.sparks.active()), (0, 0));
}

#[tokio::test]
async fn a_spark_that_moves_while_a_request_is_on_its_way_gets_it_at_its_new_place() {
    let service = Service::echo().await;
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let world = World::serving(gone).await;
    *world.sparks.moving.lock().unwrap() = Some(service.port);
    assert_eq!(ask(&world, get("api", "/", &[])).await.status, 200);
    assert_eq!(world.sparks.waits(), 2);
}
