//! Starting, being ready, draining and stopping.

use super::*;

#[tokio::test]
async fn readiness_follows_the_life_of_the_process() {
    let admin = Listener::start(PLAIN).await;
    admin.health.set("embedder", Part::Starting);
    assert_eq!(admin.get("/livez").await, (200, "ok\n".into()));
    assert_eq!(admin.get("/readyz").await, (503, "starting: embedder\n".into()));
    admin.health.set("embedder", Part::Degraded("no model at assets/".into()));
    admin.health.set("store", Part::Ok);
    admin.health.enter(Phase::Serving);
    assert_eq!(admin.get("/readyz").await, (200, "ok\n".into()));
    let (status, text) = admin.get("/readyz?verbose").await;
    assert_eq!(status, 200);
    assert!(text.contains("[+]store ok\n"), "{text}");
    assert!(text.contains("[-]embedder: degraded"), "{text}");
    admin.health.enter(Phase::Draining);
    let (status, text) = admin.get("/readyz?verbose=1").await;
    assert_eq!(status, 503);
    assert!(text.starts_with("[-]process draining\n"), "{text}");
}

#[tokio::test]
async fn before_the_rooms_are_open_health_is_answered_and_nothing_else() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (health, opened) = (Arc::new(Health::new()), CancellationToken::new());
    health.set("embedder", Part::Starting);
    let task = tokio::spawn(starting(listener, Arc::clone(&health), opened.clone()));
    let ask = async |path: &str| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    };
    assert!(ask("/livez").await.starts_with("HTTP/1.1 200"));
    let ready = ask("/readyz").await;
    assert!(
        ready.starts_with("HTTP/1.1 503") && ready.ends_with("starting: embedder\n"),
        "{ready}"
    );
    let stats = ask("/api/v1/stats").await;
    assert!(stats.starts_with("HTTP/1.1 503") && stats.contains("\"starting\""), "{stats}");
    opened.cancel();
    let listener = task.await.unwrap();
    assert_eq!(listener.local_addr().unwrap(), address, "the same port goes on");
}

#[tokio::test]
async fn stopping_closes_the_port_and_idle_connections() {
    let admin = Listener::start(PLAIN).await;
    let mut idle = TcpStream::connect(admin.address).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = [0; 12];
    idle.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
    admin.stop.cancel();
    admin.task.await.unwrap();
    assert!(TcpStream::connect(admin.address).await.is_err());
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_half_sent_head_does_not_hold_up_the_stop() {
    let admin = Listener::start(PLAIN).await;
    let mut slow = TcpStream::connect(admin.address).await.unwrap();
    slow.write_all(b"GET /liv").await.unwrap();
    // A whole exchange behind it: the listener has accepted both.
    assert_eq!(admin.get("/livez").await.0, 200);
    admin.stop.cancel();
    admin.task.await.unwrap();
}
