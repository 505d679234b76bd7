// What the server has told, put together from its frames.

export const RANGES = [
  { label: "2 min", ms: 120e3 },
  { label: "30 min", ms: 1800e3 },
  { label: "8 h", ms: 8 * 3600e3 },
];
const BUCKETS = 600;

class Daemon {
  constructor() {
    this.head = {};
    this.episodes = new Map();
    this.scores = new Map();
    this.status = null;
    this.pdus = null;
    this.notices = [];
    this.version = { episodes: 0, scores: 0, pdus: 0, health: 0 };
  }

  take(frame) {
    const { episodes, gone, status, pdus, notices, scores, full, ...head } = frame;
    this.head = head;
    if (full) this.episodes.clear(), this.scores.clear();
    for (const episode of episodes ?? []) {
      // The latest to open, and the latest to end, come last.
      if (episode.end !== null) this.episodes.delete(episode.id);
      this.episodes.set(episode.id, episode);
    }
    for (const id of gone ?? []) this.episodes.delete(id);
    if (full || episodes || gone) this.version.episodes++;
    if (status !== undefined) this.status = status;
    if (notices !== undefined) this.notices = notices;
    this.version.health++;
    if (pdus !== undefined) this.pdus = pdus, this.version.pdus++;
    for (const [source, told] of Object.entries(scores ?? {})) {
      if (told === null) this.scores.delete(source);
      else this.takePeaks(source, told.anew, told.peaks);
    }
    if (full || scores) this.version.scores++;
  }

  takePeaks(source, anew, peaks) {
    if (anew || !this.scores.has(source)) this.scores.set(source, RANGES.map(() => new Map()));
    this.scores.get(source).forEach((series, i) => {
      for (const peak of peaks[i]) series.set(peak[0], peak);
      for (const ms of series.size > BUCKETS ? [...series.keys()].sort((a, b) => a - b).slice(0, -BUCKETS) : []) series.delete(ms);
    });
  }

  // The peaks of each source in one range, oldest first.
  curves(range) {
    return [...this.scores].map(([source, series]) => ({
      source,
      points: [...series[range].values()].sort((a, b) => a[0] - b[0]),
      gapMs: 2.5 * RANGES[range].ms / BUCKETS,
    }));
  }
}

export class Store {
  constructor() {
    this.daemons = [];
    this.heard = 0;
  }

  take(frame) {
    this.heard = performance.now();
    this.serverAheadMs = frame.now_ms - Date.now();
    frame.daemons.forEach((daemon, i) => (this.daemons[i] ??= new Daemon()).take(daemon));
    this.daemons.length = frame.daemons.length;
  }
}

const WORDS = { ok: "OK", degraded: "DEGRADED", ended: "ENDED", stale: "STALE", disconnected: "DISCONNECTED" };

// The state in capitals: what matters most, and what may be smaller.
export function words({ state, open }) {
  return state === "open" ? [`${open} OPEN`, open === 1 ? " EPISODE" : " EPISODES"] : [WORDS[state] ?? state, ""];
}
