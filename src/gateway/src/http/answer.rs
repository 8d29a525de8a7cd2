//! Answers of the gateway's own.

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri,
    header::{
        ACCEPT, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, RETRY_AFTER,
        SET_COOKIE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS,
    },
};
use jiff::Timestamp;

use super::{body::Body, credentials, failure::Failure, headers, ssh};

const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// What the client understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    /// A program.
    Text,
    /// A browser that shows a page.
    Html,
    /// A client of gRPC.
    Grpc,
}

impl Wants {
    /// What this request's client understands.
    pub fn of<B>(request: &Request<B>) -> Self {
        // To CONNECT the 200 of gRPC's errors would say that there is a tunnel.
        if request.method() != Method::CONNECT && headers::is_grpc(request.headers(), request.version()) {
            Self::Grpc
        } else if accepts_html(request.headers()) {
            Self::Html
        } else {
            Self::Text
        }
    }
}

/// Whether a browser shows what it gets.
pub fn accepts_html(headers: &HeaderMap) -> bool {
    headers::tokens(headers, ACCEPT).any(|kind| kind.split(';').next() == Some("text/html"))
}

/// Says what went wrong.
pub fn failure(failure: &Failure, wants: Wants) -> Response<Body> {
    let sentence = failure.to_string();
    let mut response = match wants {
        Wants::Grpc => return grpc(failure, &sentence),
        Wants::Text => text(failure.status(), format!("{sentence}\n")),
        Wants::Html => html(failure.status(), &sentence, failure.is_waking()),
    };
    let headers = response.headers_mut();
    if failure.status() == StatusCode::UNAUTHORIZED {
        headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sparks\""));
    }
    if failure.status() == StatusCode::UPGRADE_REQUIRED {
        headers::change(headers, ssh::PROTOCOL);
    }
    if let Some(wait) = failure.retry_after() {
        headers.insert(RETRY_AFTER, HeaderValue::from(wait.as_secs()));
    }
    response
}

/// A text.
pub fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    page(status, "text/plain; charset=utf-8", text.into())
}

fn html(status: StatusCode, sentence: &str, again: bool) -> Response<Body> {
    let title = status.canonical_reason().unwrap_or("Error");
    let again = if again { "<meta http-equiv=\"refresh\" content=\"5\">" } else { "" };
    let sentence = escaped(sentence);
    let page_of = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">{again}<title>{title}</title>\
         <style>body{{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;padding:0 1rem;\
         color-scheme:light dark}}</style><h1>{title}</h1><p>{sentence}</p></html>\n"
    );
    let mut response = page(status, "text/html; charset=utf-8", page_of.into());
    let policy =
        HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'");
    response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    response
}

fn page(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::text(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CACHE_CONTROL, NO_STORE);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// An answer without messages whose trailers are in its head, as the protocol of gRPC has it.
fn grpc(failure: &Failure, sentence: &str) -> Response<Body> {
    let code = match failure.status() {
        StatusCode::UNAUTHORIZED => "16",
        StatusCode::NOT_FOUND => "5",
        StatusCode::BAD_REQUEST | StatusCode::METHOD_NOT_ALLOWED | StatusCode::UPGRADE_REQUIRED => "3",
        _ => "14",
    };
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from_static(code));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(sentence)) {
        headers.insert("grpc-message", message);
    }
    response
}

fn percent_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut all, byte| {
        match byte {
            b' '..=b'~' if byte != b'%' => all.push(byte.into()),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
        all
    })
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Takes the token of a signed link into a cookie, and leads to the same address without it.
pub fn signed_in(host: &str, uri: &Uri, token: &str, expires: Timestamp, secure: bool) -> Response<Body> {
    let left = expires.as_second().saturating_sub(Timestamp::now().as_second()).max(0);
    let secure = if secure { "; Secure" } else { "" };
    let cookie =
        format!("{}={token}; Path=/; Max-Age={left}; HttpOnly; SameSite=Lax{secure}", credentials::NAME);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut response = text(StatusCode::FOUND, "");
    let headers = response.headers_mut();
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // With the host: a path that begins with // would lead to another one.
    let location = HeaderValue::from_str(&format!("//{host}{path}"));
    // All of these are parts of what was a valid head already.
    if let (Ok(location), Ok(cookie)) = (location, HeaderValue::from_str(&cookie)) {
        headers.insert(LOCATION, location);
        headers.insert(SET_COOKIE, cookie);
    }
    response
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::http::host::Target;

    fn header<'a>(response: &'a Response<Body>, name: &str) -> &'a str {
        response.headers().get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[test]
    fn a_browser_gets_a_page_and_a_program_gets_a_sentence() {
        let request = |accept: &str| Request::builder().header("accept", accept).body(()).unwrap();
        assert_eq!(Wants::of(&request("text/html,application/xhtml+xml;q=0.9")), Wants::Html);
        assert_eq!(Wants::of(&request("text/html;q=1")), Wants::Html);
        assert_eq!(Wants::of(&request("*/*")), Wants::Text);
        assert_eq!(Wants::of(&request("text/event-stream")), Wants::Text);
    }

    #[test]
    fn grpc_gets_its_own_kind_of_error() {
        let target = Target { namespace: "b".into(), name: "a".into() };
        let response = failure(&Failure::SignIn(target), Wants::Grpc);
        assert_eq!((response.status(), header(&response, "grpc-status")), (StatusCode::OK, "16"));
        assert_eq!(header(&response, "grpc-message"), "sign in: spark url a -n b");
        assert_eq!(percent_encoded("50% of\nit"), "50%25 of%0Ait");
    }

    #[test]
    fn what_a_page_quotes_is_no_markup() {
        assert_eq!(escaped("<a href=\"&\">"), "&lt;a href=&quot;&amp;&quot;&gt;");
    }

    #[test]
    fn a_signed_link_never_leads_to_another_host() {
        let uri = Uri::from_static("//evil.org/a?b=1");
        let response = signed_in("api--team.example.com:8080", &uri, "T", Timestamp::UNIX_EPOCH, true);
        assert_eq!(header(&response, "location"), "//api--team.example.com:8080//evil.org/a?b=1");
        assert_eq!(
            header(&response, "set-cookie"),
            "sparks-token=T; Path=/; Max-Age=0; HttpOnly; SameSite=Lax; Secure"
        );
        let response = signed_in("h", &uri, "T", Timestamp::UNIX_EPOCH, false);
        assert!(!header(&response, "set-cookie").contains("Secure"));
    }
}
