/** Reports from TensorBoard's server. */

/** Something that lists runs, prompts and steps, and gives packed reports. */
export class Server {
  constructor(home) { this.home = home; }

  async runs() { return (await this.ask("tags")).runs; }
  async steps(run, tag) { return (await this.ask("steps", { run, tag })).steps.map((point) => point.step); }
  report(run, tag, step) { return this.ask("report", { run, tag, step }); }

  async ask(route, query = {}) {
    const url = new URL(route, this.home);
    for (const [name, value] of Object.entries(query)) url.searchParams.set(name, value);
    const response = await fetch(url);
    const answer = await response.json().catch(() => ({ error: `the server answered ${response.status}` }));
    if (!response.ok) throw new Error(answer.error || `the server answered ${response.status}`);
    return answer;
  }
}
