//! Jobs over the admin port: backfill and verify are started, watched and cancelled here.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;

use super::Admin;
use crate::reconcile::job::{Spec, View};
use crate::reconcile::jobs::StartError;

/// The routes; what changes something passes the guard like every other change.
pub(super) fn routes() -> Router<Admin> {
    Router::new()
        .route("/jobs", get(list).post(start))
        .route("/jobs/{id}", get(show))
        .route("/jobs/{id}/cancel", post(cancel))
        .route("/jobs/{id}/report", get(report))
}

async fn list(State(admin): State<Admin>) -> Json<Vec<View>> {
    Json(admin.jobs().list())
}

async fn show(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    match admin.jobs().get(&id) {
        Some(view) => Json(view).into_response(),
        None => unknown(&id),
    }
}

async fn start(State(admin): State<Admin>, body: String) -> Response {
    let spec: Spec = match serde_json::from_str(&body) {
        Ok(spec) => spec,
        Err(error) => return refused(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    match admin.jobs().start(spec).await {
        Ok(id) => (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response(),
        Err(error) => {
            let status = match error {
                StartError::Invalid(_) => StatusCode::BAD_REQUEST,
                StartError::Busy(_) => StatusCode::CONFLICT,
                StartError::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            };
            refused(status, &error.to_string())
        }
    }
}

async fn cancel(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    if admin.jobs().cancel(&id) {
        return (StatusCode::ACCEPTED, Json(json!({ "id": id }))).into_response();
    }
    if admin.jobs().get(&id).is_some() {
        return refused(StatusCode::CONFLICT, "the job has ended");
    }
    unknown(&id)
}

/// The report of a verification that has ended.
async fn report(State(admin): State<Admin>, Path(id): Path<String>) -> Response {
    // Only names that are known become paths.
    let Some(name) = admin.jobs().get(&id).and_then(|view| view.report) else {
        return unknown(&id);
    };
    match tokio::fs::read(admin.jobs().reports().join(name)).await {
        Ok(text) => {
            ([(axum::http::header::CONTENT_TYPE, "application/json")], text).into_response()
        }
        Err(_) => refused(StatusCode::GONE, "the report is not kept any more"),
    }
}

fn unknown(id: &str) -> Response {
    refused(StatusCode::NOT_FOUND, &format!("no such job, or no report of it: {id}"))
}

fn refused(status: StatusCode, reason: &str) -> Response {
    (status, Json(json!({ "error": reason }))).into_response()
}
