//! What is answered: the file, the homepage, `404.html`, or a line of text.

use std::convert::Infallible;
use std::io;

use bytes::Bytes;
use http::header::{
    CONTENT_TYPE, HeaderValue, IF_MODIFIED_SINCE, IF_NONE_MATCH, RANGE, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tower::ServiceExt;
use tower_http::services::ServeDir;

use super::Settings;
use super::beneath::Folder;
use super::guard;

/// Served with status 404 when there is no such file.
const NOT_FOUND_PAGE: &str = "404.html";
/// What a path holds as it is.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'/')
    .remove(b'.')
    .remove(b'-')
    .remove(b'_');

/// An answer, its body read from the disk piece by piece.
pub(super) type Answer = Response<UnsyncBoxBody<Bytes, io::Error>>;

/// What is served.
#[derive(Debug)]
pub(super) struct Site {
    folder: Folder,
    settings: Settings,
}

impl Site {
    /// # Errors
    /// When the folder can't be opened.
    pub(super) fn open(settings: Settings) -> io::Result<Self> {
        Ok(Self {
            folder: Folder::open(&settings.folder)?,
            settings,
        })
    }

    /// Answers one request; its body is of no interest.
    pub(super) async fn answer<B>(&self, request: Request<B>) -> Answer {
        let (head, _) = request.into_parts();
        if let Some(login) = &self.settings.login
            && !guard::admits(login, &head.headers)
        {
            return who_are_you();
        }
        let (method, headers) = (head.method, head.headers);
        let is_root = head.uri.path() == "/";
        let asked = if is_root {
            self.file(&self.settings.homepage, &method, &headers).await
        } else {
            self.at(head.uri, &method, &headers).await
        };
        if asked.status() != StatusCode::NOT_FOUND {
            return asked;
        }
        if self.settings.spa && !is_root {
            return self.file(&self.settings.homepage, &method, &headers).await;
        }
        // Whole and anew each time: its status is an error.
        let mut bare = headers;
        for name in [RANGE, IF_NONE_MATCH, IF_MODIFIED_SINCE] {
            bare.remove(name);
        }
        let mut page = self.file(NOT_FOUND_PAGE, &method, &bare).await;
        if page.status() != StatusCode::OK {
            return text(StatusCode::NOT_FOUND, "there is no such file here\n");
        }
        *page.status_mut() = StatusCode::NOT_FOUND;
        page
    }

    async fn file(&self, name: &str, method: &Method, headers: &HeaderMap) -> Answer {
        let path = format!("/{}", utf8_percent_encode(name, IN_A_PATH));
        match Uri::try_from(path) {
            Ok(uri) => self.at(uri, method, headers).await,
            Err(_) => text(StatusCode::NOT_FOUND, "there is no such file here\n"),
        }
    }

    async fn at(&self, uri: Uri, method: &Method, headers: &HeaderMap) -> Answer {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = uri;
        *request.method_mut() = method.clone();
        *request.headers_mut() = headers.clone();
        let files = ServeDir::with_backend("", self.folder.clone());
        let served = files.oneshot(request).await;
        let mut answer = served
            .unwrap_or_else(|never: Infallible| match never {})
            .map(BodyExt::boxed_unsync);
        answer
            .headers_mut()
            .insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        answer
    }
}

/// RFC 7617 §2.1.
fn who_are_you() -> Answer {
    let mut answer = text(
        StatusCode::UNAUTHORIZED,
        "a user and a password are asked for\n",
    );
    answer.headers_mut().insert(
        WWW_AUTHENTICATE,
        HeaderValue::from_static("Basic realm=\"files\", charset=\"UTF-8\""),
    );
    answer
}

fn text(status: StatusCode, text: &'static str) -> Answer {
    let body = Full::new(Bytes::from_static(text.as_bytes()));
    let mut answer = Response::new(body.map_err(|never| match never {}).boxed_unsync());
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, ETAG, LAST_MODIFIED};

    use super::*;
    use crate::secret::Secret;

    struct Fixture {
        _folder: tempfile::TempDir,
        site: Site,
    }

    fn fixture(change: impl FnOnce(&mut Settings, &Path)) -> Fixture {
        let folder = tempfile::tempdir().unwrap();
        let www = folder.path().join("www");
        fs::create_dir_all(www.join("sub")).unwrap();
        fs::write(folder.path().join("secret"), "s").unwrap();
        fs::write(www.join("index.html"), "<p>home").unwrap();
        fs::write(www.join("sub/index.html"), "<p>sub").unwrap();
        fs::write(www.join("a b.css"), "0123456789").unwrap();
        let mut settings = Settings::read(|_| None).unwrap();
        settings.folder.clone_from(&www);
        change(&mut settings, &www);
        Fixture {
            site: Site::open(settings).unwrap(),
            _folder: folder,
        }
    }

    async fn ask(
        it: &Fixture,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        ask_by(it, "GET", path, headers).await
    }

    async fn ask_by(
        it: &Fixture,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (StatusCode, HeaderMap, String) {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = it.site.answer(request.body(()).unwrap()).await;
        let (head, body) = answer.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        (
            head.status,
            head.headers,
            String::from_utf8(body.to_vec()).unwrap(),
        )
    }

    #[tokio::test]
    async fn files_come_with_their_type_and_what_caches_need() {
        let it = fixture(|_, _| {});
        let (status, headers, body) = ask(&it, "/a%20b.css", &[]).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "0123456789"));
        assert_eq!(headers[CONTENT_TYPE], "text/css");
        assert_eq!(headers[ACCEPT_RANGES], "bytes");
        let etag = headers[ETAG].to_str().unwrap();
        let (status, _, body) = ask(&it, "/a%20b.css", &[("if-none-match", etag)]).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_MODIFIED, ""));
        let since = headers[LAST_MODIFIED].to_str().unwrap();
        let (status, ..) = ask(&it, "/a%20b.css", &[("if-modified-since", since)]).await;
        assert_eq!(status, StatusCode::NOT_MODIFIED);
        let (status, headers, body) = ask(&it, "/a%20b.css", &[("range", "bytes=2-4")]).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::PARTIAL_CONTENT, "234")
        );
        assert_eq!(headers[CONTENT_RANGE], "bytes 2-4/10");
        let (status, headers, body) = ask_by(&it, "HEAD", "/a%20b.css", &[]).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, ""));
        assert_eq!(headers[CONTENT_LENGTH], "10");
        let (status, ..) = ask_by(&it, "POST", "/a%20b.css", &[]).await;
        assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED);
    }

    #[tokio::test]
    async fn folders_have_a_page() {
        let it = fixture(|_, _| {});
        assert_eq!(ask(&it, "/", &[]).await.2, "<p>home");
        assert_eq!(ask(&it, "/sub/", &[]).await.2, "<p>sub");
        assert!(ask(&it, "/sub", &[]).await.0.is_redirection());
    }

    #[tokio::test]
    async fn what_is_not_there_is_404_and_has_a_page_of_its_own() {
        let it = fixture(|_, _| {});
        let (status, _, body) = ask(&it, "/nothing", &[]).await;
        assert_eq!(status, StatusCode::NOT_FOUND);
        assert!(body.contains("no such file"), "{body}");
        let it = fixture(|_, www| fs::write(www.join("404.html"), "<p>gone").unwrap());
        let (status, headers, body) = ask(&it, "/nothing", &[("range", "bytes=0-1")]).await;
        assert_eq!((status, body.as_str()), (StatusCode::NOT_FOUND, "<p>gone"));
        assert_eq!(headers[CONTENT_TYPE], "text/html");
    }

    #[tokio::test]
    async fn a_single_page_application_answers_every_path() {
        let it = fixture(|settings, _| settings.spa = true);
        let (status, _, body) = ask(&it, "/users/7", &[]).await;
        assert_eq!((status, body.as_str()), (StatusCode::OK, "<p>home"));
        assert_eq!(ask(&it, "/a%20b.css", &[]).await.2, "0123456789");
    }

    #[tokio::test]
    async fn the_homepage_can_be_another() {
        let it = fixture(|settings, www| {
            fs::write(www.join("st art.html"), "<p>start").unwrap();
            settings.homepage = "st art.html".to_owned();
        });
        assert_eq!(ask(&it, "/", &[]).await.2, "<p>start");
    }

    #[tokio::test]
    async fn nothing_leads_out_of_the_folder() {
        let it = fixture(|_, www| {
            std::os::unix::fs::symlink("../secret", www.join("link")).unwrap();
            fs::write(www.join(".env"), "e").unwrap();
        });
        for path in [
            "/../secret",
            "/%2e%2e/secret",
            "/..%2fsecret",
            "/sub/..%2f..%2fsecret",
            "/..%5csecret",
            "//etc/passwd",
            "/link",
            "/.env",
            "/%2eenv",
            "/a%00",
        ] {
            let (status, _, body) = ask(&it, path, &[]).await;
            assert_eq!(status, StatusCode::NOT_FOUND, "{path}: {body}");
        }
    }

    #[tokio::test]
    async fn a_login_is_asked_for_before_anything_is_told() {
        let it = fixture(|settings, _| settings.login = Some(Secret::new("u:p".to_owned())));
        for path in ["/", "/nothing"] {
            let (status, headers, _) = ask(&it, path, &[]).await;
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert!(
                headers[WWW_AUTHENTICATE]
                    .to_str()
                    .unwrap()
                    .starts_with("Basic ")
            );
        }
        let (status, ..) = ask(&it, "/", &[("authorization", "Basic dTpw")]).await;
        assert_eq!(status, StatusCode::OK);
    }
}
