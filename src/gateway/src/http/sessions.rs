//! Recorded sessions, for who has a token of the whole namespace. A link to one Spark's service opens no recording.

use std::{io, sync::Arc};

use bytes::Bytes;
use futures::stream::{self, Stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::StreamBody;
use hyper::body::{Frame, Incoming};
use spark_client::access::Token;
use tokio::{
    sync::Semaphore,
    task::{JoinError, spawn_blocking},
};

use super::{
    admission, answer,
    body::Body,
    credentials::{self, Carrier, Presented},
    host::is_namespace,
    keys::{Keys, Unavailable},
    own::Sessions,
};
use crate::recording::{
    Download, Store,
    api::{self, Answer, Question},
};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const CAST: HeaderValue = HeaderValue::from_static("application/x-asciicast");
/// Questions that are answered at the same time; a search reads every recording.
const AT_ONCE: usize = 4;

/// Answers from this store.
pub fn sessions(store: Arc<Store>, keys: Arc<dyn Keys>) -> Sessions {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    Arc::new(move |request| {
        let (store, keys, turns) = (store.clone(), keys.clone(), turns.clone());
        Box::pin(async move {
            let question = match question(&*keys, request).await {
                Ok(question) => question,
                Err(refusal) => return refusal.into_response(),
            };
            // The semaphore is never closed.
            let turn = turns.acquire_owned().await;
            let answer = move || {
                // Nothing stops a search whose client has gone, so its turn ends when it does.
                let _turn = turn;
                api::answer(&store, &question)
            };
            spawn_blocking(answer).await.map_or_else(|error| broken(&error), answered)
        })
    })
}

/// Why a question is not answered.
enum Refusal {
    Method,
    NotFound,
    SignIn,
    CannotCheck(Unavailable),
}

impl Refusal {
    fn into_response(self) -> Response<Body> {
        match self {
            Self::Method => answer::text(StatusCode::METHOD_NOT_ALLOWED, "recordings can only be read\n"),
            Self::NotFound => not_found(),
            Self::SignIn => {
                answer::text(StatusCode::UNAUTHORIZED, "a token of the namespace is needed: spark sessions\n")
            }
            Self::CannotCheck(error) => answer::text(StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        }
    }
}

fn not_found() -> Response<Body> {
    answer::text(StatusCode::NOT_FOUND, "there is no such recording\n")
}

async fn question(keys: &dyn Keys, request: Request<Incoming>) -> Result<Question, Refusal> {
    if request.method() != Method::GET {
        return Err(Refusal::Method);
    }
    let (mut head, _) = request.into_parts();
    let presented = credentials::take(&mut head);
    let query = form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned();
    let question = Question::parse(head.uri.path(), &query.collect::<Vec<_>>()).ok_or(Refusal::NotFound)?;
    if may_read(keys, &question.namespace, presented).await.map_err(Refusal::CannotCheck)? {
        Ok(question)
    } else {
        Err(Refusal::SignIn)
    }
}

async fn may_read(keys: &dyn Keys, namespace: &str, presented: Presented) -> Result<bool, Unavailable> {
    if !is_namespace(namespace) {
        return Ok(false);
    }
    for (_, text) in presented.iter().filter(|(carrier, _)| *carrier == Carrier::Header) {
        let Some(token) = Token::parse(text) else { continue };
        if token.scope().namespace != namespace || token.scope().name.is_some() {
            continue;
        }
        if admission::verify(keys, namespace, &token).await?.is_ok() {
            return Ok(true);
        }
    }
    Ok(false)
}

fn answered(found: Answer) -> Response<Body> {
    match found {
        Answer::Json(json) => of(JSON, Body::text(json)),
        Answer::Cast(recording) => of(CAST, Body::own(StreamBody::new(pieces(recording)))),
        Answer::NotFound => not_found(),
        Answer::Refused(why) => answer::text(StatusCode::BAD_REQUEST, format!("{why}\n")),
    }
}

fn of(kind: HeaderValue, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn broken(error: &JoinError) -> Response<Body> {
    tracing::error!(%error, "a question for recordings broke");
    answer::text(StatusCode::INTERNAL_SERVER_ERROR, "the gateway failed\n")
}

/// A recording, read as fast as the client takes it; while it takes nothing, no thread waits for it.
fn pieces(recording: Download) -> impl Stream<Item = io::Result<Frame<Bytes>>> + Send {
    stream::try_unfold(recording, async |mut recording| {
        let (piece, recording) = spawn_blocking(move || (recording.piece(), recording)).await?;
        Ok(piece?.map(|piece| (Frame::data(Bytes::from(piece)), recording)))
    })
}
