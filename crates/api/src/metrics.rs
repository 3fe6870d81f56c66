//! The one route of the metrics listener. It has no authentication, and nothing else is behind it.

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::{HeaderValue, StatusCode, header};
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Scrapes at once; one more is told to come again.
const AT_ONCE: usize = 4;

/// Whoever can write the text of a scrape.
pub trait Scrape: Send + Sync + 'static {
    /// The text, in Prometheus' format 0.0.4.
    fn text(&self) -> Pin<Box<dyn Future<Output = String> + Send + '_>>;
}

struct Listener {
    from: Arc<dyn Scrape>,
    places: Semaphore,
}

/// `GET /metrics`.
pub fn router(from: Arc<dyn Scrape>) -> Router {
    Router::new()
        .route("/metrics", get(scrape))
        .with_state(Arc::new(Listener {
            from,
            places: Semaphore::new(AT_ONCE),
        }))
}

async fn scrape(State(listener): State<Arc<Listener>>) -> Response {
    let Ok(_place) = listener.places.try_acquire() else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let mut response = listener.from.text().await.into_response();
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
    );
    response
}
