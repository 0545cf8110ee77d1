// Lets the site's search run when its pages are opened as files: browsers start no worker from file://, so a hidden frame stands in.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      document.body.append(this.frame)
      const inner = this.frame.contentWindow
      inner.postMessage = data => this.answer(new MessageEvent("message", { data }))
      inner.importScripts = (...urls) => urls.reduce((done, one) => done.then(() => this.run(one)), Promise.resolve())
      this.ready = this.run(url)
    }
    answer(event) {
      this.dispatchEvent(event)
      if (this.onmessage) this.onmessage(event)
    }
    run(url) {
      return new Promise((done, failed) => {
        const script = this.frame.contentDocument.createElement("script")
        Object.assign(script, { src: url, onload: done, onerror: failed })
        this.frame.contentDocument.body.append(script)
      })
    }
    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() { this.frame.remove() }
  }
}
