//! What a client asks a connection to become: by `Upgrade` in HTTP/1.1, and for websockets by CONNECT in HTTP/2 (RFC 8441).
//! The Spark is asked by HTTP/1.1 in either case.

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header::CONTENT_LENGTH};
use hyper::{
    ext::Protocol,
    upgrade::{self, OnUpgrade},
};

use super::{body::Body, failure::Failure, handshake::Handshake, headers};

const WEBSOCKET: HeaderValue = HeaderValue::from_static("websocket");

/// A change of protocol that the client asks for.
pub struct Upgrade {
    protocol: HeaderValue,
    client: OnUpgrade,
    form: Form,
}

/// How it was asked for.
enum Form {
    Http1,
    Http2(Handshake),
}

/// Refuses every tunnel that is no websocket's.
pub fn check<B>(request: &Request<B>) -> Result<(), Failure> {
    if request.method() != Method::CONNECT {
        return Ok(());
    }
    match request.extensions().get::<Protocol>() {
        None => Err(Failure::Connect),
        Some(protocol) if protocol.as_ref().eq_ignore_ascii_case(WEBSOCKET.as_bytes()) => Ok(()),
        Some(_) => Err(Failure::NotWebsocket),
    }
}

impl Upgrade {
    /// What a request that passed [`check`] asks for. One of HTTP/2 is made what it would be in HTTP/1.1, so that every rule
    /// holds for both.
    pub fn take<B>(request: &mut Request<B>) -> Option<Self> {
        let (protocol, form) = if request.method() == Method::CONNECT {
            *request.method_mut() = Method::GET;
            *request.version_mut() = Version::HTTP_11;
            (WEBSOCKET, Form::Http2(Handshake::of(request.headers())))
        } else {
            (headers::upgrade(request.headers(), request.version())?, Form::Http1)
        };
        Some(Self { protocol, client: upgrade::on(request), form })
    }

    /// Asks the Spark for it.
    pub fn ask(&self, headers: &mut HeaderMap) {
        headers::change(headers, self.protocol.clone());
        if let Form::Http2(handshake) = &self.form {
            handshake.ask(headers);
        }
    }

    /// Whether the client would take an answer of this status for a websocket that is open.
    pub fn is_opened_by(&self, status: StatusCode) -> bool {
        matches!(self.form, Form::Http2(_)) && status.is_success()
    }

    /// Whether the Spark, which has changed the protocol, changed it to what was asked for.
    pub fn is_granted(&self, headers: &HeaderMap) -> bool {
        match &self.form {
            // The client looks itself.
            Form::Http1 => true,
            Form::Http2(handshake) => handshake.is_answered(headers),
        }
    }

    /// Tells the client in the words of its own protocol. `protocol` is what the Spark said.
    pub fn grant(&self, answer: &mut Response<Body>, protocol: Option<HeaderValue>) {
        match &self.form {
            Form::Http1 => {
                headers::change(answer.headers_mut(), protocol.unwrap_or_else(|| self.protocol.clone()));
            }
            Form::Http2(handshake) => {
                *answer.status_mut() = StatusCode::OK;
                // RFC 9110, section 9.3.6: there is none in a success of CONNECT.
                answer.headers_mut().remove(CONTENT_LENGTH);
                handshake.tell(answer.headers_mut());
            }
        }
    }

    /// The client's side of the tunnel.
    pub fn into_client(self) -> OnUpgrade {
        self.client
    }
}
