//! `/healthz` and `/metrics`, for the kubelet and for Prometheus.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use tokio::net::TcpListener;

/// How this process does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// All lists have come to their end once.
    pub is_synced: bool,
    /// The director has taken what it was last given.
    pub is_applied: bool,
    pub is_leader: bool,
    /// Services of the cluster that the director was given.
    pub services: usize,
    /// Those of them that it does not serve, or not all of them.
    pub left_out: usize,
    /// What it was given, and how often that failed.
    pub applied: u64,
    pub failed: u64,
}

/// Figures that whoever is asked may read.
#[derive(Debug, Clone, Default)]
pub(crate) struct Board(Arc<Mutex<Figures>>);

impl Board {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn figures(&self) -> Figures {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves for as long as it is polled.
pub(crate) async fn serve(listener: TcpListener, board: Board) {
    let router = Router::new()
        .route("/healthz", get(answer_healthz))
        .route("/metrics", get(answer_metrics))
        .with_state(board);
    if let Err(error) = axum::serve(listener, router).await {
        tracing::error!("serving /healthz: {error}");
    }
}

async fn answer_healthz(State(board): State<Board>) -> (StatusCode, String) {
    healthz(board.figures())
}

async fn answer_metrics(State(board): State<Board>) -> String {
    metrics(board.figures())
}

/// A restart would mend none of this, so it is for readiness, not for liveness.
fn healthz(figures: Figures) -> (StatusCode, String) {
    match (figures.is_synced, figures.is_applied) {
        (true, true) => (StatusCode::OK, "ok\n".to_owned()),
        (false, _) => (StatusCode::SERVICE_UNAVAILABLE, "the cluster is not known yet\n".to_owned()),
        (true, false) => {
            (StatusCode::SERVICE_UNAVAILABLE, "the director has not taken the services\n".to_owned())
        }
    }
}

fn metrics(figures: Figures) -> String {
    let Figures { is_synced, is_applied, is_leader, services, left_out, applied, failed } = figures;
    let (services, left_out) = (services as u64, left_out as u64);
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("lb_kube_synced", "gauge", "1 if the cluster is known", u64::from(is_synced)),
        (
            "lb_kube_applied",
            "gauge",
            "1 if the director has taken what it was last given",
            u64::from(is_applied),
        ),
        ("lb_kube_leader", "gauge", "1 if this one writes to the cluster", u64::from(is_leader)),
        ("lb_kube_services", "gauge", "Kubernetes Services that the director was given", services),
        ("lb_kube_services_left_out", "gauge", "Those of them that it does not serve", left_out),
        ("lb_kube_applies_total", "counter", "How often the director was given all services", applied),
        ("lb_kube_apply_failures_total", "counter", "How often it did not take them", failed),
    ] {
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_well_when_the_director_has_what_the_cluster_says() {
        let well = Figures { is_synced: true, is_applied: true, ..Figures::default() };
        assert_eq!(healthz(well).0, StatusCode::OK);
        assert!(healthz(Figures::default()).1.contains("the cluster"));
        assert!(healthz(Figures { is_applied: false, ..well }).1.contains("the director"));
    }

    #[test]
    fn metrics_are_as_prometheus_reads_them() {
        let text = metrics(Figures { is_leader: true, services: 3, ..Figures::default() });
        assert!(text.contains("# TYPE lb_kube_leader gauge\nlb_kube_leader 1\n"), "{text}");
        assert!(text.contains("\nlb_kube_services 3\n"), "{text}");
        assert_eq!(text.lines().count(), 21);
    }
}
