//! Watches of a server that answers by a script.

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use axum::http::Uri;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::core::{ListMeta, Status};
use parking_lot::Mutex;

use super::*;
use crate::telemetry::{Kind, Metrics};

/// One answer of the server.
enum Answer {
    /// A page, with the token of the next one.
    Page(&'static [&'static str], Option<&'static str>),
    /// A watch with these events, which then ends.
    Ends(Vec<kube::Result<WatchEvent<ConfigMap>>>),
    /// A watch with these events, which then is quiet.
    Quiet(Vec<kube::Result<WatchEvent<ConfigMap>>>),
    Refused(u16),
    Never,
}

/// Answers in order, then never. Records the requests with their times.
#[derive(Clone, Default)]
struct Script {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    requests: Arc<Mutex<Vec<(String, Instant)>>>,
}

impl Script {
    fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self { answers: Arc::new(Mutex::new(answers.into_iter().collect())), ..Self::default() }
    }

    fn next(&self, request: String) -> Answer {
        self.requests.lock().push((request, Instant::now()));
        self.answers.lock().pop_front().unwrap_or(Answer::Never)
    }

    fn requests(&self) -> Vec<String> {
        self.requests.lock().iter().map(|(request, _)| request.clone()).collect()
    }

    fn events(&self, metrics: &Metrics) -> impl Stream<Item = String> + use<> {
        let health = metrics.watches.watch(Kind::Resources);
        events(self.clone(), None, health, Arc::default(), |_| {}).map(|event| match event {
            Event::Init => "init".to_owned(),
            Event::InitApply(object) => format!("listed {}", object.name_any()),
            Event::InitDone => "done".to_owned(),
            Event::Apply(object) => format!("applied {}", object.name_any()),
            Event::Delete(object) => format!("deleted {}", object.name_any()),
        })
    }
}

impl Server<ConfigMap> for Script {
    async fn list(&self, params: &ListParams) -> kube::Result<Page<ConfigMap>> {
        let token = params.continue_token.clone().unwrap_or_default();
        match self.next(format!("list {token}")) {
            Answer::Page(names, token) => Ok(Page {
                metadata: ListMeta {
                    resource_version: Some("7".to_owned()),
                    continue_: token.map(str::to_owned),
                    ..ListMeta::default()
                },
                objects: names.iter().map(|name| object(name, "1")).collect(),
                bytes: 1000,
            }),
            Answer::Refused(code) => Err(refused(code)),
            _ => std::future::pending().await,
        }
    }

    async fn watch(&self, _: &WatchParams, version: &str) -> kube::Result<Events<ConfigMap>> {
        match self.next(format!("watch {version}")) {
            Answer::Ends(events) => Ok(stream::iter(events).boxed()),
            Answer::Quiet(events) => Ok(stream::iter(events).chain(stream::pending()).boxed()),
            Answer::Refused(code) => Err(refused(code)),
            _ => std::future::pending().await,
        }
    }
}

fn object(name: &str, version: &str) -> ConfigMap {
    let mut object = ConfigMap::default();
    object.metadata.name = Some(name.to_owned());
    object.metadata.resource_version = Some(version.to_owned());
    object
}

fn modified(name: &str, version: &str) -> kube::Result<WatchEvent<ConfigMap>> {
    Ok(WatchEvent::Modified(object(name, version)))
}

fn refused(code: u16) -> kube::Error {
    kube::Error::Api(Status::failure("why", "Reason").with_code(code).boxed())
}

fn metrics() -> Metrics {
    Metrics::new().expect("distinct names")
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages_and_the_watch_goes_on_where_it_ended() {
    let script = Script::new([
        Answer::Page(&["a", "b"], Some("next")),
        Answer::Page(&["c"], None),
        Answer::Ends(vec![modified("a", "8"), Ok(WatchEvent::Deleted(object("b", "9")))]),
        Answer::Quiet(vec![modified("c", "10")]),
    ]);
    let events: Vec<_> = script.events(&metrics()).take(8).collect().await;
    let wanted =
        ["init", "listed a", "listed b", "listed c", "done", "applied a", "deleted b", "applied c"];
    assert_eq!(events, wanted);
    assert_eq!(script.requests(), ["list ", "list next", "watch 7", "watch 9"]);
}

#[tokio::test(start_paused = true)]
async fn a_watch_that_is_answered_410_starts_over_with_a_list() {
    let gone = kube::Error::Api(Status::failure("old", "Expired").with_code(410).boxed());
    let kube::Error::Api(status) = gone else { unreachable!() };
    let script = Script::new([
        Answer::Page(&["a"], None),
        Answer::Refused(410),
        Answer::Page(&["b"], None),
        Answer::Refused(500),
        Answer::Ends(vec![Ok(WatchEvent::Error(status))]),
        Answer::Page(&["c"], None),
    ]);
    let mut events = pin!(script.events(&metrics()));
    while events.next().await.expect("endless") != "listed c" {}
    assert_eq!(script.requests(), ["list ", "watch 7", "list ", "watch 7", "watch 7", "list "]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_cannot_be_decoded_starts_over_with_a_list() {
    let error = serde_json::from_str::<ConfigMap>("[").expect_err("not an object");
    let script = Script::new([
        Answer::Page(&["a"], None),
        Answer::Quiet(vec![Err(kube::Error::SerdeError(error))]),
        Answer::Page(&["b"], None),
    ]);
    let mut events = pin!(script.events(&metrics()));
    while events.next().await.expect("endless") != "listed b" {}
    assert_eq!(script.requests(), ["list ", "watch 7", "list "]);
}

/// kube decodes any JSON as a status if it is not an event.
#[tokio::test(start_paused = true)]
async fn a_line_that_is_not_an_event_starts_over_with_a_list() {
    let router = Router::new().fallback(async |uri: Uri| match uri.query().unwrap_or_default() {
        query if query.contains("watch=true") => "{\"object\": {}, \"kind\": \"Odd\"}\n",
        _ => r#"{"kind": "List", "metadata": {"resourceVersion": "7"}, "items": []}"#,
    });
    let client = kube::Client::new(router.into_service::<kube::client::Body>(), "ns");
    let health = metrics().watches.watch(Kind::Resources);
    let api: Api<ConfigMap> = Api::default_namespaced(client);
    let lists = events(api, None, health, Arc::default(), |_| {})
        .filter(|event| std::future::ready(matches!(event, Event::InitDone)));
    let mut second = pin!(lists.skip(1));
    let second = timeout(Duration::from_secs(60), second.next()).await;
    assert!(second.is_ok(), "the watch goes on at the same line for ever");
}

#[tokio::test(start_paused = true)]
async fn waits_grow_while_lists_succeed_and_watches_do_not() {
    let answers = (0..8).flat_map(|_| [Answer::Page(&[], None), Answer::Refused(410)]);
    let script = Script::new(answers);
    let mut events = pin!(script.events(&metrics()));
    while script.requests().len() < 15 {
        events.next().await;
    }

    let requests = script.requests.lock().clone();
    let times = requests.iter().filter(|(request, _)| request == "list ").map(|(_, time)| *time);
    let times: Vec<_> = times.collect();
    let gaps: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_secs_f64()).collect();
    for (gap, least) in gaps.iter().zip([0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0]) {
        assert!((least..=2.0 * least + 0.1).contains(gap), "{gaps:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_of_a_watch_resets_the_backoff() {
    let refusals = (0..6).map(|_| Answer::Refused(500));
    let script = Script::new(
        std::iter::once(Answer::Page(&[], None))
            .chain(refusals)
            .chain([Answer::Ends(vec![modified("a", "8")]), Answer::Refused(500)])
            .chain([Answer::Quiet(vec![modified("b", "9")])]),
    );
    let mut events = pin!(script.events(&metrics()));
    while events.next().await.expect("endless") != "applied a" {}
    let before = Instant::now();
    assert_eq!(events.next().await.as_deref(), Some("applied b"));
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_answer_is_asked_again() {
    let script = Script::new([
        Answer::Never,
        Answer::Page(&[], None),
        Answer::Never,
        Answer::Quiet(vec![modified("a", "8")]),
    ]);
    let metrics = metrics();
    let mut events = pin!(script.events(&metrics));
    let before = Instant::now();
    while events.next().await.expect("endless") != "applied a" {}
    assert_eq!(script.requests(), ["list ", "list ", "watch 7", "watch 7"]);
    assert!(before.elapsed() > LIST_WITHIN + START_WITHIN, "{:?}", before.elapsed());
    assert_eq!(metrics.watches.trouble(), None);
}

#[tokio::test(start_paused = true)]
async fn a_watch_fails_until_it_has_lasted_although_lists_succeed() {
    let ends = || Answer::Ends(Vec::new());
    let script = Script::new(
        std::iter::once(Answer::Page(&[], None))
            .chain((0..6).map(|_| ends()))
            .chain([Answer::Quiet(Vec::new())]),
    );
    let metrics = metrics();
    let mut events = pin!(script.events(&metrics));
    let reported = async {
        while metrics.watches.trouble().is_none_or(|text| text.starts_with("waiting")) {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert!(script.requests().len() >= 5, "{:?}", script.requests());
        while metrics.watches.trouble().is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    tokio::select! {
        () = reported => {}
        () = async { while events.next().await.is_some() {} } => {}
    }
    assert_eq!(script.requests().len(), 8, "{:?}", script.requests());
}
